"""What happens before a role serves: checks of the project and of the engines, migration, and the API inside a worker."""
