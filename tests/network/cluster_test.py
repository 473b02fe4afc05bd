#!/usr/bin/env python3
"""From a hostfile to results with launch/cluster.sh, as a new user would: three boxes with files of their own and sshd.

The program is on the first box alone, the model on all. usage: cluster_test.py FLEXGEN-DIST [unittest options]
FLEXGEN_SSHD_LAYER names a folder with openssh-server unpacked, where it is not installed.
Exits with 77, which CTest counts as skipped, where there is no sshd, or the user may not make network namespaces.
"""
import os
import pathlib
import pwd
import shutil
import subprocess

import site_of_boxes
from network_case import COMMUNICATION, PATIENCE_S, ROOT, NetworkCase, main, make_rows, options, program, results
from site_of_boxes import FOLDER, Box, Bridge, wait_until

LAYER = os.environ.get("FLEXGEN_SSHD_LAYER")
MODEL, HOME = "/models/demo", pwd.getpwuid(0).pw_dir
INTERRUPTED = 130
SSHD = """Port 22
HostKey /etc/ssh/box_key
AuthorizedKeysFile /etc/ssh/box_user.pub
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
"""
# A root of its own: the machine's files below changes in memory, and nothing of the user's home, /tmp and the project.
OWN_ROOT = """
mkdir -p /mnt/roots/$0; mount -t tmpfs tmpfs /mnt/roots/$0; cd /mnt/roots/$0; mkdir upper work tree
mount -t overlay overlay -o lowerdir={layers},upperdir=upper,workdir=work tree
mount --rbind /proc tree/proc; mount --rbind /dev tree/dev; mount -t sysfs sysfs tree/sys
for folder in {home} /tmp /run /mnt; do mount -t tmpfs tmpfs tree$folder; done
mkdir -p tree{project} tree{model} tree/run/sshd tree/scratch tree{home}/.ssh; chmod 1777 tree/tmp
{mount_project}
cp -r {project}/configs/demo-model/. tree{model}/
cp /etc/hosts tree/etc/hosts
sed -i 's/^root:[^:]*:/root:*:/' tree/etc/shadow
grep -q ^sshd: tree/etc/passwd || echo sshd:x:74:74::/run/sshd:/usr/sbin/nologin >>tree/etc/passwd
mkdir -p tree/etc/ssh; cp /mnt/keys/box_key /mnt/keys/box_user.pub /mnt/keys/sshd_config tree/etc/ssh/
if [[ $0 == box1 ]]; then
  cp /mnt/keys/box_user tree{home}/.ssh/id_ed25519; chmod 600 tree{home}/.ssh/id_ed25519
  cp /mnt/keys/known_hosts tree{home}/.ssh/
fi
"""


def make_keys():
    if LAYER:  # a layer may not lie in another one
        site_of_boxes.run("cp", "-r", LAYER, FOLDER / "layer")
    folder = FOLDER / "keys"
    folder.mkdir()
    for name in ("box_key", "box_user"):
        site_of_boxes.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "sshd_config").write_text(SSHD)
    key = " ".join((folder / "box_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text("".join(f"box{i} {key}\n" for i in (1, 2, 3)))


def own_root(name):
    mount_project = f"mount --bind {ROOT} tree{ROOT}" if name == "box1" else f"mount -t tmpfs tmpfs tree{ROOT}"
    return OWN_ROOT.format(layers=f"{FOLDER / 'layer'}:/" if LAYER else "/", project=ROOT, model=MODEL, home=HOME, mount_project=mount_project)


class ClusterCase(NetworkCase):
    num_rows = 60

    def setUp(self):
        if not (FOLDER / "keys").exists():
            make_keys()
        self.boxes, self.job, self.log = [], None, FOLDER / "log"
        for i in (1, 2, 3):
            self.boxes.append(Box(f"box{i}", i, own_root(f"box{i}"), f"/mnt/roots/box{i}/tree"))
        self.bridge = Bridge(self.boxes)
        self.addCleanup(self.bridge.close)
        self.daemons = {box.name: subprocess.Popen([*box.enter(), "/usr/sbin/sshd", "-D", "-f", "/etc/ssh/sshd_config"])
                        for box in self.boxes}
        for box in self.boxes:
            box.run("bash", "-c", f"until : </dev/tcp/{box.address}/22; do sleep 0.05; done 2>/dev/null")
            # What container engines leave on every host, with the same network on each.
            box.run("ip", "link", "add", "docker0", "type", "bridge")
            box.run("ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
            box.run("ip", "link", "set", "docker0", "up")

    def tearDown(self):
        super().tearDown()
        for daemon in self.daemons.values():
            daemon.wait(10)

    def inside(self, box, path):
        """A file of a box, as the test reaches it."""
        return pathlib.Path(f"/proc/{box.process.pid}/root{path}")

    def start_cluster(self, hosts, *more, variables=(), **row_fields):
        """Starts launch/cluster.sh in the first box, from a hostfile."""
        home = self.inside(self.boxes[0], HOME)
        (home / "hosts").write_text(hosts)
        make_rows(home / "rows.jsonl", self.num_rows, **row_fields)
        self.words = options("rows.jsonl", "answers.jsonl", model=MODEL, offload="/scratch")
        with open(self.log, "wb") as log:
            self.job = subprocess.Popen([*self.boxes[0].enter(), "env", "-C", HOME, f"HOME={HOME}", "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
                                         "OMP_NUM_THREADS=1", *variables, ROOT / "launch" / "cluster.sh", "--hostfile", "hosts", "--program",
                                         program(), *more, *self.words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def cluster(self, hosts, *more, **row_fields):
        """The exit code of one that runs to its end."""
        self.start_cluster(hosts, *more, **row_fields)
        return self.job.wait(PATIENCE_S)

    def expect_results(self):
        (FOLDER / "offload").mkdir(exist_ok=True)
        home = self.inside(self.boxes[0], HOME)
        rows, output = home / "rows.jsonl", home / "answers.jsonl"
        self.assertEqual(len(results(output)), self.num_rows)
        self.expect_alone([{"rows.jsonl": rows, "answers.jsonl": output, MODEL: ROOT / "configs" / "demo-model",
                            "/scratch": FOLDER / "offload"}.get(word, word) for word in self.words], output)

    def expect_nothing_left(self):
        only_sshd = lambda: all("sshd" in words for words in self.left())
        self.assertTrue(wait_until(only_sshd, 10), self.left())
        for box in self.boxes:
            self.assertEqual(list(self.inside(box, "/scratch").iterdir()), [])


class ClusterTest(ClusterCase):
    def test_from_a_hostfile_to_results(self):
        self.assertEqual(self.cluster("# three boxes\nbox1 slots=1\nbox2 slots=1\nbox3\n"), 0, self.text())
        self.expect_results()
        self.assertIn("ranks       3 on box1:1,box2:1,box3:1", self.text())
        self.assertIn("network     10.77.0.0/24", self.text())
        for box in self.boxes:
            copies = list(self.inside(box, f"{HOME}/.cache/flexgen-dist/programs").glob("*/flexgen-dist"))
            self.assertEqual(len(copies), 1, box.name)
        self.expect_nothing_left()

    def test_results_come_home(self):
        """From a machine that runs no rank; a job that has done its rows leaves no files there."""
        self.assertEqual(self.cluster("box3\nbox2 slots=2\n"), 0, self.text())
        self.expect_results()
        self.assertEqual(list(self.inside(self.boxes[2], f"{HOME}/.cache/flexgen-dist/jobs").iterdir()), [])
        before = (self.inside(self.boxes[0], HOME) / "answers.jsonl").read_bytes()
        self.assertEqual(self.cluster("box3\nbox2 slots=2\n"), 2, self.text())
        self.assertIn("--overwrite", self.text())
        self.assertEqual((self.inside(self.boxes[0], HOME) / "answers.jsonl").read_bytes(), before)
        self.expect_nothing_left()

    def test_this_machine_has_rank_0_wherever_it_stands(self):
        self.assertEqual(self.cluster("box2\nbox1\n", "--no-doctor"), 0, self.text())
        self.assertRegex(self.text(), "rank 0 +host CPU on box1")
        self.expect_results()

    def test_hosts_that_cannot_do_it(self):
        """All of them are named at once, and nothing is started."""
        self.daemons["box2"].kill()
        self.assertEqual(self.cluster("box1\nbox2\nbox9\n"), COMMUNICATION, self.text())
        self.assertRegex(self.text(), "box2 cannot be reached: .*refused")
        self.assertRegex(self.text(), "box9 cannot be reached: .*resolve.*hostfile")
        self.assertFalse((self.inside(self.boxes[0], HOME) / "answers.jsonl").exists())
        self.expect_nothing_left()

    def test_libraries_that_a_host_lacks(self):
        found = subprocess.run(["ldd", program()], check=True, capture_output=True, text=True).stdout
        library = next(line.split()[2] for line in found.splitlines() if "libspdlog" in line or "libClp" in line)
        os.unlink(self.inside(self.boxes[2], os.path.realpath(library)))
        self.inside(self.boxes[2], library).unlink(missing_ok=True)
        self.assertEqual(self.cluster("box1\nbox3\n"), COMMUNICATION, self.text())
        self.assertRegex(self.text(), f"does not run on box3, which lacks {os.path.basename(library)}")

    def test_an_interface_that_a_host_lacks(self):
        self.assertEqual(self.cluster("box1\nbox2\n", "--interface", "eth7"), COMMUNICATION, self.text())
        self.assertRegex(self.text(), r"box2 is not in the network 'eth7' .*eth0 \(10.77.0.0/24\)")

    def test_a_model_that_a_host_lacks(self):
        """The doctor says so, before the job is started."""
        shutil.rmtree(self.inside(self.boxes[1], MODEL))
        code = self.cluster("box1\nbox2\n")
        self.assertNotIn(code, (0, 1), self.text())
        self.assertIn("the job is not started", self.text())
        self.assertRegex(self.text(), "rank 1")


class LongJobTest(ClusterCase):
    def test_an_interrupted_job_goes_on_where_its_journal_is(self):
        self.num_rows = 200
        hosts, fields = "box2\nbox3\n", {"max_tokens": 40, "stop": None}
        self.start_cluster(hosts, "--no-doctor", **fields)
        jobs = self.inside(self.boxes[1], f"{HOME}/.cache/flexgen-dist/jobs")
        has_begun = lambda: any(results(file) for file in jobs.glob("*/out/answers.jsonl"))
        self.assertTrue(wait_until(lambda: has_begun() or self.job.poll() is not None, PATIENCE_S), self.text())
        self.job.terminate()
        self.assertEqual(self.job.wait(PATIENCE_S), INTERRUPTED, self.text())
        home = self.inside(self.boxes[0], HOME) / "answers.jsonl"
        done = len(results(home))
        self.assertTrue(0 < done < self.num_rows, done)
        self.assertIn("the same command goes on by it", self.text())
        self.assertEqual(self.cluster(hosts, "--no-doctor", **fields), 0, self.text())
        self.assertIn(f"{done} rows are done", self.text())
        self.expect_results()
        self.expect_nothing_left()

    def test_a_host_that_is_cut_off_is_left_out(self):
        """The job goes on by itself on those that are left, and what runs on the lost one ends there."""
        self.num_rows = 300
        silence = [f"OMPI_MCA_oob_tcp_keepalive_{name}={value}" for name, value in (("time", 2), ("intvl", 1), ("probes", 3))]
        self.start_cluster("box1\nbox2\nbox3\n", "--no-doctor", "--retries", "1", "--retry-pause", "0", "--allow-fewer-ranks",
                           variables=silence, max_tokens=40, stop=None)
        output = self.inside(self.boxes[0], HOME) / "answers.jsonl"
        self.assertTrue(wait_until(lambda: results(output) or self.job.poll() is not None, PATIENCE_S), self.text())
        self.assertIsNone(self.job.poll(), self.text())
        self.bridge.cut(self.boxes[2])
        self.assertEqual(self.job.wait(2 * PATIENCE_S), 0, self.text())
        self.assertIn("box3 cannot be reached: the job goes on without it", self.text())
        self.assertRegex(self.text(), "2 ranks on host CPU")
        self.expect_results()
        self.expect_nothing_left()


if __name__ == "__main__":
    if not LAYER and not os.access("/usr/sbin/sshd", os.X_OK):
        site_of_boxes.skip("openssh-server is not here")
    main("ssh", "ssh-keygen")
