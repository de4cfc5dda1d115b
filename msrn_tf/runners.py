"""Where the commands that Apache Beam can spread over machines run: their flags. Beam itself is in `msrn_tf/beam`."""

import dataclasses

from msrn_tf.command_line import option

RUNNERS = ("DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner", "PortableRunner")


@dataclasses.dataclass(frozen=True)
class RunnerConfig:
    """Apache Beam"""

    runner: str = option(
        "",
        "run as an Apache Beam pipeline: DirectRunner on this machine, the others on a cluster; empty: without Beam",
        choices=("", *RUNNERS),
    )
    runner_option: tuple[str, ...] = option(
        (),
        "pipeline option as name=value, as Beam documents it, such as region=europe-west4, flink_master=host:8081 or "
        "direct_num_workers=4; may be given several times",
        repeated=True,
    )


WITHOUT_BEAM = RunnerConfig()
