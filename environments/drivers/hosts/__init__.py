"""Containers on hosts with Docker or Podman, behind a load balancer."""
