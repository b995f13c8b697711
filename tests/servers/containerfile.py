"""Carries out the last stage of the Containerfile in a directory tree, for machines without a container engine.

  containerfile.py TREE BINARIES [CONTAINERFILE]

TREE is a Debian made by debootstrap; BINARIES holds what the build stage would have built. Prints as JSON what the image would
start and as whom. The file's own instructions are parsed and carried out, so the test and the file cannot drift apart; one that
is unknown here is an error. Needs root."""

import json
import os
import re
import shutil
import subprocess
import sys

from dockerfile_parse import DockerfileParser


def stages(path):
    """The instructions of each stage, with the arguments before the first."""
    parser = DockerfileParser(fileobj=open(path, "rb"))
    head, found = [], []
    for each in parser.structure:
        if each["instruction"] == "COMMENT":
            continue
        if each["instruction"] == "FROM":
            found.append([each])
        else:
            (found[-1] if found else head).append(each)
    return head, found


def run(tree, command, variables):
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", **variables}
    subprocess.run(["chroot", tree, "/bin/sh", "-c", command], env=environment, check=True, stdout=sys.stderr)


def copy(tree, value, binaries):
    words = value.split()
    options, paths = [w for w in words if w.startswith("--")], [w for w in words if not w.startswith("--")]
    if "--from=build" not in options or not paths[-1].endswith("/"):
        sys.exit(f"COPY {value}: only what the build stage made is copied here, into a directory")
    mode = next(int(o.removeprefix("--chmod="), 8) for o in options if o.startswith("--chmod="))
    for path in paths[:-1]:
        if not path.startswith("/src/target/release/"):
            sys.exit(f"COPY {value}: {path} is not what cargo build --release makes")
        to = tree + paths[-1] + os.path.basename(path)
        shutil.copyfile(os.path.join(binaries, os.path.basename(path)), to)
        os.chmod(to, mode)


def main(tree, binaries, path="Containerfile"):
    head, found = stages(path)
    if not found[-1][0]["value"].startswith("debian:") or len(found) != 2:
        sys.exit("the last of two stages is expected to be a Debian")
    builds = [each["value"] for each in found[0] if each["instruction"] == "RUN"]
    variables, image = {}, {}
    for each in head:
        name, _, default = each["value"].partition("=")
        variables[name] = default
    image["base"] = re.sub(r"\$\{(\w+)\}", lambda name: variables[name[1]], found[-1][0]["value"])
    variables = {}
    for each in found[-1][1:]:
        kind, value = each["instruction"], each["value"]
        if kind == "ARG":
            name, _, default = value.partition("=")
            variables[name] = default
        elif kind == "RUN":
            run(tree, value, variables)
        elif kind == "COPY":
            copy(tree, value, binaries)
        elif kind == "USER":
            image["user"] = value
        elif kind in ("ENTRYPOINT", "CMD"):
            image[kind.lower()] = json.loads(value)
        elif kind != "LABEL":
            sys.exit(f"{kind} is not known here: teach it to {os.path.basename(__file__)}")
    image["builds"] = builds
    print(json.dumps(image))


main(*sys.argv[1:])
