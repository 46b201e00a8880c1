"""The metadata service of an instance or a container."""
