"""From what a graph yields to what clients see: LangGraph's stream in, events of the SDK and frames of the protocol out."""
