"""Checks of any server of the API, by the SDK: `durathread verify`."""
