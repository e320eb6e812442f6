"""Deployments of a Kubernetes cluster."""
