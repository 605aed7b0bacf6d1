"""Runs the Pulumi program of the current folder under mocks; prints what it declares as JSON.

Run by the Python of `.venv-deploy`, which has Pulumi and nothing of ours:
`python tests/deploy/program.py PROJECT STACK`.
"""

import json
import os
import runpy
import sys

import pulumi
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, set_all_config, set_mocks, test

NUMBER = "123456789"
# What Google would answer, where the program makes something of it.
OUTPUTS = {
    "gcp:serviceaccount/account:Account": lambda i: {
        "email": f"{i['accountId']}@my-project.iam.gserviceaccount.com",
        "member": f"serviceAccount:{i['accountId']}@my-project.iam.gserviceaccount.com",
    },
    "gcp:redis/instance:Instance": lambda _: {
        "host": "10.0.0.3",
        "port": 6378,
        "authString": "auth-string",
        "serverCaCerts": [{"cert": "-----BEGIN CERTIFICATE-----"}],
    },
    "gcp:sql/databaseInstance:DatabaseInstance": lambda i: {
        "connectionName": f"my-project:us-central1:{i['name']}"
    },
    "gcp:logging/projectSink:ProjectSink": lambda _: {"writerIdentity": "serviceAccount:sink@g"},
    "docker-build:index:Image": lambda i: {"ref": i["tags"][0] + "@sha256:0123"},
    "random:index/randomPassword:RandomPassword": lambda i: {"result": "r" * int(i["length"])},
}


class Recorder(Mocks):
    """Answers as Google would, and keeps what was asked for."""

    def __init__(self):
        self.resources = []

    def new_resource(self, args: MockResourceArgs):
        self.resources.append({"type": args.typ, "name": args.name, "inputs": args.inputs})
        made = OUTPUTS.get(args.typ, lambda _: {})(args.inputs)
        return f"{args.name}-id", {**args.inputs, **made}

    def call(self, args: MockCallArgs):
        if args.token == "gcp:organizations/getProject:getProject":
            return {"number": NUMBER, "projectId": args.args["projectId"]}
        raise AssertionError(args.token)


def main(project: str, stack: str) -> None:
    recorder = Recorder()
    set_mocks(recorder, project=project, stack=stack, preview=False)
    set_all_config({f"{project}:redis_url": "rediss://:p@redis.example.com:6379/0"})
    sys.path.insert(0, ".")
    try:
        test(lambda: runpy.run_path("__main__.py", run_name="__main__"))()
    except pulumi.RunError as err:
        sys.exit(str(err))
    sys.stdout.write(json.dumps(recorder.resources))
    sys.stdout.flush()
    os._exit(0)  # Pulumi leaves an event loop behind that complains when it is collected


main(*sys.argv[1:])
