"""The database's steps from one version to the next."""
