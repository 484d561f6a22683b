"""Makers of models: data, networks, losses, evaluation, export. The only importer of torch."""
