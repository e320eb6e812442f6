from django.apps import AppConfig


class DeploymentsConfig(AppConfig):
    name = "deployments"

    def ready(self) -> None:
        """Register the kind of operation this app brings, its strategies, and what pipelines need."""
        from controlplane.accounts import programs
        from controlplane.clock.registry import register
        from controlplane.operations.registry import register_kind, register_step
        from deployments import declarations
        from deployments.adoption import ADOPTION
        from deployments.adoption import STEPS as ADOPTION_STEPS
        from deployments.exporting import register_export
        from deployments.kind import DEPLOYMENT
        from deployments.listing import images_deployed
        from deployments.manifests import MANIFESTS
        from deployments.pipelines import github, identity, webhooks
        from deployments.pipelines.declarations import PIPELINE_RULES
        from deployments.pipelines.workflow import WORKFLOW
        from deployments.strategies.colours import idle_colours
        from deployments.strategies.declarations import STRATEGIES
        from deployments.strategies.steps import STEPS
        from environments import deployed
        from environments.declarations.sections import register_section

        register_kind(DEPLOYMENT)
        register_kind(ADOPTION)
        deployed.register(images_deployed)
        deployed.register_aside(idle_colours)
        for section in (declarations.GROUPS, declarations.POLICIES, declarations.FREEZES):
            register_section(section)
        register_section(PIPELINE_RULES)
        register_export(WORKFLOW)
        register_export(MANIFESTS)
        register_section(STRATEGIES)
        for name, function in {**STEPS, **ADOPTION_STEPS}.items():
            register_step(name, function)
        programs.register(identity.authenticate)
        register("tell commits", 1.0, github.tell_due)
        register("forget used tokens", 600.0, identity.forget_used)
        register("forget old deliveries", 600.0, webhooks.forget_old)
