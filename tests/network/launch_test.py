#!/usr/bin/env python3
"""launch/cluster.sh with stand-ins for hosts, the launcher and the program: what it makes of what hosts have. Needs no root.

usage: launch_test.py
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

CLUSTER = pathlib.Path(__file__).resolve().parent.parent.parent / "launch" / "cluster.sh"
MPI = "mpirun (Open MPI) 4.1.4"
PROGRAM = """case $1 in
  --version) echo "flexgen-dist 0.1.0" ;;
  --help) echo "  doctor     look" ;;
esac
"""
LAUNCHER = """[[ $1 == --version ]] && { echo "mpirun (Open MPI) 4.1.4"; exit; }
echo "$*" >>"$folder/runs"; env >"$folder/environment"
[[ " $* " == *" doctor "* ]] && exit "$(cat "$folder/doctor" 2>/dev/null || echo 0)"
exit 0
"""
# Answers for a host whose facts are written down; runs anything else here.
AGENT = """[[ -e "$folder/$1.facts" ]] || { cat "$folder/$1.refusal" >&2; exit 255; }
if [[ $2 == "bash -s "* ]]; then cat >/dev/null; cat "$folder/$1.facts"; else exec bash -c "$2"; fi
"""


class LaunchCase(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flexgen-cluster-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.program, self.launcher, self.agent = (self.stand_in(*part) for part in (
            ("program", PROGRAM), ("launcher", LAUNCHER), ("agent", AGENT)))
        self.digest = hashlib.sha256(self.program.read_bytes()).hexdigest()

    def stand_in(self, name, script):
        file = self.folder / name
        file.write_text(f"#!/bin/bash\nfolder={self.folder}\n{script}")
        file.chmod(0o755)
        return file

    def host(self, called, networks=("203.0.113.0/24 eth0 10000",), **facts):
        facts = {"name": called, "machine": "x86_64", "program": self.digest, "copy": "", "version": "", "gpus": 0, "nodes": 1,
                 "daemon": "/usr/bin/orted", "mpi": MPI, **facts}
        lines = [f"{key} {value}" for key, value in facts.items()] + [f"network {network}" for network in networks]
        (self.folder / f"{called}.facts").write_text("\n".join(lines) + "\n")

    def outcome(self, *words, job=("generate", "--model", "m", "--output", "out"), **variables):
        """Exit code, what was started and what was said."""
        (self.folder / "runs").write_text("")
        environment = dict(os.environ, MPIRUN=str(self.launcher), HOME=str(self.folder), TMPDIR=str(self.folder), **variables)
        done = subprocess.run([CLUSTER, "--program", self.program, "--rsh", self.agent, *map(str, words), *job], env=environment,
                              check=False, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        return done.returncode, (self.folder / "runs").read_text().splitlines(), done.stderr

    def expect(self, code, part, *words, **named):
        found, runs, said = self.outcome(*words, **named)
        self.assertEqual((found, runs), (code, []), said)
        self.assertIn(part, said)

    def variable(self, name):
        """As the launcher saw it."""
        return dict(line.split("=", 1) for line in (self.folder / "environment").read_text().splitlines() if "=" in line).get(name)

    def hostfile(self, text):
        (self.folder / "hosts").write_text(text)
        return ["--hostfile", "hosts", "--no-doctor"]


class HostsTest(LaunchCase):
    def test_hostfiles(self):
        self.host("a")
        self.host("b", gpus=4)
        for text, hosts, num_ranks in [("a\nb\n", "a:1,b:4", 5), ("# ours\na slots=2\n\nb slots=2 max_slots=4 # old\n", "a:2,b:2", 4),
                                       ("b:3\na", "b:3,a:1", 4), ("a slots=1\na slots=1", "a:2", 2)]:
            code, runs, said = self.outcome(*self.hostfile(text))
            self.assertEqual(code, 0, said)
            self.assertRegex(runs[0], f"^--host {hosts} -n {num_ranks} ")

    def test_a_list(self):
        self.host("a")
        self.host("b", gpus=2)
        self.assertIn("--host a:3,b:2 -n 5", self.outcome("--host", "a:3,b", "--no-doctor")[1][0])

    def test_words_that_cannot_be_read(self):
        self.host("a")
        for words, part in [([], "no hosts"), (["--host", "a b"], "'a b'"), (["--hostfile", "none"], "'none'"),
                            (["--slots", "3"], "'--slots'"), (["--host"], "takes a value")]:
            self.expect(2, part, *words, job=() if words == ["--host"] else ("generate",))
        self.expect(2, "no job", "--host", "a", job=())

    def test_all_that_is_wrong_is_said_at_once(self):
        self.host("a")
        (self.folder / "b.refusal").write_text("user@b: Permission denied (publickey).\r\n")
        (self.folder / "c.refusal").write_text("ssh: connect to host c port 22: Connection timed out\n")
        said = self.outcome("--host", "a,b,c")[2]
        self.expect(5, "b cannot be reached: user@b: Permission denied (publickey).; let this user in by a key: ssh-copy-id b", "--host", "a,b,c")
        self.assertIn("c cannot be reached", said)

    def test_two_names_of_one_host(self):
        self.host("a")
        self.host("b", name="a")
        self.expect(5, "'b' and 'a' are one host", "--host", "a,b")

    def test_launchers_that_do_not_match(self):
        self.host("a", mpi="mpirun (Open MPI) 5.0.3")
        self.host("b", daemon="")
        self.expect(5, "a has 'mpirun (Open MPI) 5.0.3', this machine 'mpirun (Open MPI) 4.1.4'", "--host", "a")
        self.expect(5, "b has no Open MPI", "--host", "b")

    def test_numa_nodes(self):
        for facts, slots, mapping in [((2, 2), (4, 4), "ppr:2:numa"), ((2, 2), (1, 1), None), ((2, 1), (2, 2), None),
                                      ((2, 4), (2, 4), "ppr:1:numa"), ((2, 2), (2, 4), None)]:
            self.host("a", nodes=facts[0])
            self.host("b", nodes=facts[1])
            self.assertEqual(self.outcome("--host", f"a:{slots[0]},b:{slots[1]}", "--no-doctor")[0], 0)
            self.assertEqual(self.variable("OMPI_MCA_rmaps_base_mapping_policy"), mapping)
            self.assertEqual(self.variable("OMPI_MCA_hwloc_base_binding_policy"), "numa" if mapping else "none")


class NetworkTest(LaunchCase):
    def chosen(self, *networks, words=()):
        for name, has in zip("ab", networks):
            self.host(name, has)
        code, _, said = self.outcome("--host", "a,b", "--no-doctor", *words)
        self.assertEqual(code, 0, said)
        # This machine, from which mpirun talks to its daemons, is in none of these networks.
        self.assertIsNone(self.variable("OMPI_MCA_oob_tcp_if_include"))
        self.assertRegex(self.variable("OMPI_MCA_oob_tcp_if_exclude"), "^lo(,|$)")
        return self.variable("OMPI_MCA_btl_tcp_if_include")

    def test_never_one_of_containers(self):
        inner = [f"172.{i}.0.0/16 {name} 40000" for i, name in enumerate(["docker0", "virbr0", "veth12ab", "br-77", "cni0"], 17)]
        both = [*inner, "127.0.0.0/8 lo -1", "203.0.113.0/24 eth0 1000"]
        self.assertEqual(self.chosen(both, both), "203.0.113.0/24")
        self.assertEqual(self.variable("NCCL_SOCKET_IFNAME"), "=eth0")

    def test_the_fastest_of_those_that_all_are_in(self):
        slow, fast, other = "203.0.113.0/24 eth0 1000", "198.51.100.0/24 {} {}", "192.0.2.0/24 ib0 200000"
        self.assertEqual(self.chosen([slow, fast.format("eth1", 100000), other], [slow, fast.format("ens5", 25000)]), "198.51.100.0/24")
        self.assertIsNone(self.variable("NCCL_SOCKET_IFNAME"))
        self.assertEqual(self.chosen([slow, fast.format("eth1", 100000)], [slow, fast.format("eth1", 10)]), "203.0.113.0/24")

    def test_routers_between_hosts(self):
        self.assertIsNone(self.chosen(["203.0.113.0/24 eth0 1", "172.17.0.0/16 docker0 1"], ["192.0.2.0/24 eth0 1"]))
        self.assertIn("docker0", self.variable("OMPI_MCA_btl_tcp_if_exclude").split(","))
        self.assertNotIn("eth0", self.variable("OMPI_MCA_btl_tcp_if_exclude").split(","))

    def test_one_that_is_asked_for(self):
        both = ["203.0.113.0/24 eth0 1000", "172.17.0.0/16 docker0 1"]
        self.assertEqual(self.chosen(both, both, words=["--interface", "docker0"]), "docker0")
        self.assertEqual(self.chosen(both, both, words=["--interface", "172.17.0.0/16"]), "172.17.0.0/16")
        self.host("b", ["203.0.113.0/24 eth0 1000"])
        self.expect(5, "b is not in the network 'docker0' (--interface): it has eth0 (203.0.113.0/24)", "--host", "a,b",
                    "--interface", "docker0")


class JobTest(LaunchCase):
    def test_the_program_stays_where_all_have_it(self):
        self.host("a")
        self.host("b", program="other", version="flexgen-dist 0.1.0")  # for other processors, say
        self.assertIn(f" {self.program} generate", self.outcome("--host", "a,b", "--no-doctor")[1][0])

    def test_a_copy_where_one_lacks_it(self):
        self.host("a")
        self.host("b", program="", version="")
        copy = self.folder / "there" / "programs" / self.digest[:16] / "flexgen-dist"
        code, runs, said = self.outcome("--host", "a,b", "--no-doctor", "--copy-to", self.folder / "there")
        self.assertEqual(code, 0, said)
        self.assertIn(f" {copy} generate", runs[0])
        self.assertEqual(copy.read_bytes(), self.program.read_bytes())
        self.assertEqual(list(copy.parent.iterdir()), [copy])
        (self.folder / "full").write_text("a file where a folder should be")
        self.expect(5, "--copy-to", "--host", "a,b", "--no-doctor", "--copy-to", self.folder / "full")

    def test_a_c_library_that_is_older(self):
        message = "program: /lib/libc.so.6: version `GLIBC_2.38' not found (required by program)"
        (self.folder / "message").write_text(message)
        self.stand_in("program", 'cat "$folder/message" >&2; exit 1\n')
        self.digest = hashlib.sha256(self.program.read_bytes()).hexdigest()
        self.host("a")
        self.expect(5, "older than where it was built (GLIBC_2.38): build it on the oldest", "--host", "a")

    def test_the_doctor_comes_first(self):
        self.host("a")
        words = ["generate", "--model", "m", "--percent", "0", "100", "0", "100", "0", "100", "--offload-dir=/scratch", "--input", "x", "y"]
        code, runs, said = self.outcome("--host", "a", "--retries", 2, job=words)
        self.assertEqual((code, len(runs)), (0, 2), said)
        self.assertTrue(runs[0].endswith(" doctor --quiet --model m --offload-dir=/scratch"), runs[0])
        self.assertTrue(runs[1].endswith(" ".join(words)), runs[1])
        (self.folder / "doctor").write_text("3")
        code, runs, said = self.outcome("--host", "a", job=words)
        self.assertEqual((code, len(runs)), (3, 1), said)
        self.assertIn("the job is not started", said)
        self.assertEqual(len(self.outcome("--host", "a", "--no-doctor", job=words)[1]), 1)

    def test_the_environment_goes_along(self):
        self.host("a")
        run = self.outcome("--host", "a", "--no-doctor", "--env", "MINE", "--env", "OTHER=a b", OMP_NUM_THREADS="3", NCCL_DEBUG="INFO",
                           SECRET="x")[1][0]
        for words in ("-x OMP_NUM_THREADS ", "-x NCCL_DEBUG ", "-x MINE ", "-x OTHER=a b "):
            self.assertIn(words, run)
        self.assertNotIn("SECRET", run)

    def test_only_looking(self):
        self.host("a")
        self.expect(0, "ranks       1 on a:1", "--host", "a", "--check", "--no-doctor")


if __name__ == "__main__":
    unittest.main()
