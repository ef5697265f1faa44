"""Checks the packages as far as that goes without a cluster: `cargo xtask packages` calls it.

    python check.py ZABRA

ZABRA is a server's binary: what manifests, chart and image set in the environment must be settings
that it takes. Prints what is wrong, and a line for each check; the exit code is 1 if anything is.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

HERE = Path(__file__).parent
CHART = HERE / "helm/zabra"
# What users of the chart set, and how many servers must stay for a quorum.
CHARTS = [
    ({}, 2),
    ({"replicas": 1, "antiAffinity": "none", "networkPolicy": False}, 1),
    (
        {
            "replicas": 5,
            "image": {"tag": "1.2.3"},
            "imagePullSecrets": [{"name": "registry"}],
            "storage": {"className": "fast", "size": "1Ti"},
            "settings": {"ZABRA_TICKTIME": 1000},
            "tolerations": [{"key": "disk", "operator": "Exists"}],
            "nodeSelector": {"disk": "fast"},
            "podAnnotations": {"a": "b"},
        },
        3,
    ),
]


def run(*command: object, **options) -> None:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, **options
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and not said.strip(), f"{command[0]}:\n{said}"


def objects(text: str) -> dict:
    found = [it for it in yaml.safe_load_all(text) if it]
    for it in found:
        kubernetes_validate.validate(it, "1.29", strict=True)
    return {(it["kind"], it["metadata"]["name"]): it for it in found}


def kind(found: dict, wanted: str) -> dict:
    (only,) = [it for (what, _), it in found.items() if what == wanted]
    return only


def accepts(zabra: Path, environment: dict[str, str], directory: Path) -> None:
    """The settings are ones that a server would start with."""
    config = directory / "zoo.cfg"
    config.write_text("clientPort=2181\ninitLimit=5\nsyncLimit=2\n")
    done = subprocess.run(
        [zabra, "doctor", "--no-fsync", config],
        env={**environment, "ZOO_DATA_DIR": str(directory / "data")},
        capture_output=True,
        text=True,
    )
    assert "would not start" not in done.stdout and "well" in done.stdout, done.stdout + done.stderr


def judge(found: dict, quorum: int, zabra: Path, directory: Path) -> None:
    """What Kubernetes' schemas do not know."""
    server = kind(found, "StatefulSet")["spec"]
    labels = server["template"]["metadata"]["labels"].items()
    for (what, name), it in found.items():
        spec = it["spec"]
        selector = spec.get("podSelector", spec.get("selector", {}))
        selector = selector.get("matchLabels", selector)
        assert selector and selector.items() <= labels, f"{what} {name} selects others"
    services = {name for what, name in found if what == "Service"}
    assert server["serviceName"] in services, services
    assert kind(found, "PodDisruptionBudget")["spec"]["minAvailable"] == quorum
    assert server["replicas"] // 2 + 1 == quorum
    (container,) = server["template"]["spec"]["containers"]
    values = {it["name"]: it.get("value", "") for it in container["env"]}
    peers = [value for name, value in values.items() if name.startswith("ZABRA_SERVER_")]
    pods = server["serviceName"].removesuffix("-peers")
    hosts = [f"{pods}-{pod}.{server['serviceName']}" for pod in range(server["replicas"])]
    assert [peer.split(":")[0] for peer in peers] == hosts, peers
    for pod in range(server["replicas"]):
        # As Kubernetes would.
        mine = {name: value.replace("$(POD_NAME)", f"{pods}-{pod}") for name, value in values.items()}
        accepts(zabra, mine, directory)


def unit(zabra: Path, directory: Path) -> str:
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        return "skipped: systemd-analyze is not installed"
    text = (HERE / "systemd/zabra.service").read_text()
    copy = directory / "zabra.service"
    # That it is not installed here is no fault of the unit.
    copy.write_text(text.replace("/usr/bin/zabra", str(zabra.resolve())))
    run(analyze, "verify", "--man=no", copy)
    security = [analyze, "security", "--offline=true", "--threshold=20", str(copy)]
    done = subprocess.run(security, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return "fine"


def image(zabra: Path, directory: Path) -> str:
    file = HERE / "docker/Dockerfile"
    run(Path(sys.executable).parent / "hadolint", file)
    text = file.read_text()
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    values = dict(word.split("=", 1) for word in block.replace("\\\n", " ").split())
    accepts(zabra, values, directory)
    # And with what users of the official image set.
    accepts(
        zabra,
        {
            **values,
            "ZOO_MY_ID": "2",
            "ZOO_SERVERS": " ".join(f"server.{n}=zoo{n}:2888:3888;2181" for n in (1, 2, 3)),
            "ZOO_TICK_TIME": "2000",
            "ZOO_INIT_LIMIT": "5",
            "ZOO_SYNC_LIMIT": "2",
            "ZOO_MAX_CLIENT_CNXNS": "60",
            "ZOO_STANDALONE_ENABLED": "true",
            "ZOO_ADMINSERVER_ENABLED": "false",
            "ZOO_AUTOPURGE_PURGEINTERVAL": "1",
            "ZOO_AUTOPURGE_SNAPRETAINCOUNT": "3",
            "ZOO_4LW_COMMANDS_WHITELIST": "srvr,ruok",
            "ZOO_CFG_EXTRA": "snapCount=5000 jute.maxbuffer=2000000",
        },
        directory,
    )
    return "fine"


def manifests(zabra: Path, directory: Path) -> str:
    found = objects((HERE / "kubernetes/zabra.yaml").read_text())
    judge(found, 2, zabra, directory)
    return "fine"


def chart(zabra: Path, directory: Path) -> str:
    found = helm_python.lint(str(CHART))
    # Helm would like an icon.
    messages = [it for it in found["messages"] if "icon is recommended" not in str(it)]
    assert not messages and not found["errors"] and found["total_charts_linted"] == 1, found
    with helm_python.Chart.load(str(CHART)) as loaded:
        for values, quorum in CHARTS:
            rendered = loaded.render(values, name="my-zoo", namespace="default")
            texts = [text for name, text in rendered.items() if name.endswith(".yaml")]
            judge(objects("\n---\n".join(texts)), quorum, zabra, directory)
    return "fine"


def same(_: Path, __: Path) -> str:
    """The manifests are what the chart makes."""
    plain = objects((HERE / "kubernetes/zabra.yaml").read_text())
    with helm_python.Chart.load(str(CHART)) as loaded:
        rendered = loaded.render({}, name="zabra", namespace="default")
    made = objects("\n---\n".join(it for name, it in rendered.items() if name.endswith(".yaml")))
    assert plain.keys() == made.keys(), (plain.keys(), made.keys())

    def without(it, *names):
        # Which release it is of, only the chart knows.
        if isinstance(it, dict):
            return {key: without(value, *names) for key, value in it.items() if key not in names}
        return [without(value, *names) for value in it] if isinstance(it, list) else it

    own = (
        "app.kubernetes.io/instance",
        "app.kubernetes.io/version",
        "app.kubernetes.io/managed-by",
        "helm.sh/chart",
        "imagePullPolicy",
    )
    for name, it in plain.items():
        assert it == without(made[name], *own), f"{name}:\n{it}\n{without(made[name], *own)}"
    return "fine"


def style(_: Path, __: Path) -> str:
    lint = Path(sys.executable).parent / "yamllint"
    config = HERE / ".yamllint"
    run(lint, "--strict", "--config-file", config, HERE / "kubernetes", CHART / "values.yaml")
    return "fine"


def main() -> int:
    zabra = Path(sys.argv[1])
    # The variables of whoever runs this are not of what is checked.
    for name in [name for name in os.environ if name.startswith(("ZABRA_", "ZOO_"))]:
        del os.environ[name]
    failed = False
    for check in (unit, image, manifests, chart, same, style):
        with tempfile.TemporaryDirectory() as directory:
            try:
                result = check(zabra, Path(directory))
            except (AssertionError, Exception) as error:  # One run shows all that is wrong.
                failed = True
                result = f"WRONG: {error or type(error).__name__}"
        print(f"{check.__name__}: {result}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
