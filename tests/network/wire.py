#!/usr/bin/env python3
"""A switch of Ethernet ports that brings every frame DELAY milliseconds late and loses the share LOSS of them.

usage: wire.py DELAY_MS LOSS PORT:PID...     each port becomes `eth0` in the network namespace of process PID
Ends when its input closes, and prints how many frames it has brought and lost.
"""
import collections
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LONGEST_FRAME = 65536


def open_port(name, pid):
    port = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(port, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", name, "netns", pid, "name", "eth0"], check=True)
    return port


def send(frame, ports):
    for port in ports:
        try:
            os.write(port, frame)
        except OSError:  # its queue is full, or it is down: lost
            continue


def switch(ports, delay_s, loss):
    draw = random.Random(18)
    late = collections.deque()  # (due, port that it came in by, frame), in the order in which they are due
    port_of = {}  # by hardware address
    num_brought = num_lost = 0
    poll = select.poll()
    for port in [*ports, sys.stdin.fileno()]:
        poll.register(port, select.POLLIN)
    while True:
        wait_s = late[0][0] - time.monotonic() if late else 1
        for port, _ in poll.poll(max(0, wait_s * 1000)):
            if port == sys.stdin.fileno():
                return num_brought, num_lost
            try:
                frame = os.read(port, LONGEST_FRAME)
            except OSError:  # the box has its interface down
                continue
            port_of[frame[6:12]] = port
            if draw.random() < loss:
                num_lost += 1
            else:
                late.append((time.monotonic() + delay_s, port, frame))
        while late and late[0][0] <= time.monotonic():
            _, source, frame = late.popleft()
            to = port_of.get(frame[:6])
            send(frame, [to] if to else [port for port in ports if port != source])
            num_brought += 1


def main():
    ports = [open_port(*port.split(":")) for port in sys.argv[3:]]
    print("up", flush=True)
    print(*switch(ports, float(sys.argv[1]) / 1000, float(sys.argv[2])))


if __name__ == "__main__":
    main()
