"""Reads material: installed Python packages, files and folders."""
