"""A file a client of the SDK: parse, ask `services`, answer."""
