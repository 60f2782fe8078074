"""The SDK's clients without a URL, in nodes and custom routes: how their requests reach this server without a network."""
