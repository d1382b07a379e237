"""Reads material: installed Python packages, descriptions of APIs and tools, files and folders."""
