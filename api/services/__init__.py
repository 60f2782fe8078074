"""What routes and the protocol both do: start runs, wait for them, read and change the states of threads."""
