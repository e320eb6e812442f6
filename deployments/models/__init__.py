"""What deployments store: one file a subject, all of it to be had from here."""

from deployments.models.pipelines import (
    CommitNotice,
    Pipeline,
    ReleaseReport,
    UsedToken,
    WebhookDelivery,
    WorkflowRun,
)
from deployments.models.policy import ApproverGroup, ChecklistTick, FreezeWindow, Policy, ReleaseEvidence
from deployments.models.releases import Deployment, Release, ReleaseCommits
from deployments.models.strategies import CanarySample, CanaryVerdict, StrategyTable

__all__ = [
    "ApproverGroup",
    "CanarySample",
    "CanaryVerdict",
    "ChecklistTick",
    "CommitNotice",
    "Deployment",
    "FreezeWindow",
    "Pipeline",
    "Policy",
    "Release",
    "ReleaseCommits",
    "ReleaseEvidence",
    "ReleaseReport",
    "StrategyTable",
    "UsedToken",
    "WebhookDelivery",
    "WorkflowRun",
]
