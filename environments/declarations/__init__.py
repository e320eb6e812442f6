"""The company's configuration file: read strictly, shown as a difference, made so in one transaction."""
