"""Everything that this project has on Google Cloud: `pulumi up` in this folder makes it so."""

from cloud.deployment import deploy

deploy()
