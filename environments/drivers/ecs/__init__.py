"""Services of Amazon ECS."""
