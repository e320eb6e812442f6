"""The auditor: watches the engine from outside, with nothing of it. See docs/auditor.md.

Nothing here imports Django, nor anything of ours outside of this package; tests/incidents/test_auditor_apart.py checks.
"""
