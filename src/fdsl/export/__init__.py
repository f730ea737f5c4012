"""Datasets as files, for those who want files."""
