"""What the cloud target cannot do yet says so."""

import pytest

from runner.errors import RunnerError
from runner.servers import local_servers
from runner.settings import Settings


@pytest.mark.parametrize("command", [local_servers.up, local_servers.down])
def test_a_command_that_needs_postgresql_refuses_the_cloud_target(tmp_path, command):
    settings = Settings("cloud", tmp_path, {"REDIS_URL": "redis://127.0.0.1:1/0"})
    with pytest.raises(RunnerError, match="target cloud has no PostgreSQL"):
        command(settings)


def test_on_the_cloud_target_no_server_of_this_machine_is_required(tmp_path):
    local_servers.require_servers(Settings("cloud", tmp_path, {}))
