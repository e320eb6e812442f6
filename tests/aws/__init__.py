"""AWS as it behaves over time: moto's server behind an HTTP layer of ours; see `layer` and `ecs`."""
