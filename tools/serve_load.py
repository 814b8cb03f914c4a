#!/usr/bin/env python3
"""Load on `lienzo serve`: many clients, many jobs; was any lost or drawn twice, does memory grow, do lists stay quick?

    python3 tools/serve_load.py --binary target/release/lienzo [--clients 50] [--jobs 2000]

Standard library only. Starts a server of its own on a free port. Prints one line a finding and ends with 1 when a bound
is broken: a job lost or drawn twice, memory after all jobs above 1.1 times that after the first tenth, or the 99th
percentile of GET /api/jobs beside a running job above 50 ms.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def resident(pid, key):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key)) / 1024


def percentile(times, share):
    times = sorted(times)
    return 1000 * times[min(len(times) - 1, int(share * len(times)))]


def lists(port, seconds):
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        status, _ = ask(port, "GET", "/api/jobs")
        assert status == 200
        times.append(time.monotonic() - begun)
        time.sleep(0.02)
    return times


def wait_idle(port):
    while ask(port, "GET", "/api/jobs?state=queued,running&limit=1")[1]["jobs"]:
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=2000)
    args = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        command = [args.binary, "serve", "--port", "0", "--output", folder]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = int(server.stdout.readline().rsplit(":", 1)[1])
            time.sleep(1)
            idle = lists(port, 5)
            ids, lock, seeds, waited = [], threading.Lock(), iter(range(args.jobs)), [0]

            def client():
                while True:
                    with lock:
                        seed = next(seeds, None)
                    if seed is None:
                        return
                    while True:
                        status, job = ask(port, "POST", "/api/jobs", {"prompt": "a star", "seed": seed, "steps": 1})
                        if status != 503:
                            break
                        waited[0] += 1
                        time.sleep(0.2)
                    assert status == 202, (status, job)
                    with lock:
                        ids.append(job["id"])

            begun, early = time.monotonic(), None
            threads = [threading.Thread(target=client) for _ in range(args.clients)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.2)
                if early is None and len(ids) >= args.jobs // 10:
                    early = resident(server.pid, "VmHWM")
            wait_idle(port)
            took = time.monotonic() - begun
            late = resident(server.pid, "VmHWM")
            print(f"{args.jobs} jobs of {args.clients} clients in {took:.1f} s; told to wait {waited[0]} times")
            print(f"peak memory {early:.1f} MiB after a tenth, {late:.1f} MiB after all: {late / early:.3f}")
            pictures = set()
            for name in ids:
                job = ask(port, "GET", f"/api/jobs/{name}")[1]
                if job["state"] != "done" or job["attempts"] != 1 or len(job["pictures"]) != 1:
                    failed.append(f"{name}: {job['state']}, begun {job['attempts']} times")
                else:
                    pictures.add(job["pictures"][0]["sha256"])
            if len(set(ids)) != args.jobs or len(pictures) != args.jobs:
                failed.append(f"{len(set(ids))} jobs and {len(pictures)} pictures of {args.jobs}")
            if late > 1.1 * early:
                failed.append("memory grows")
            slow = {"prompt": "a star", "width": 256, "height": 256, "steps": 1000, "seed": 1}
            running = ask(port, "POST", "/api/jobs", slow)[1]["id"]
            busy = lists(port, 10)
            ask(port, "POST", f"/api/jobs/{running}/cancel")
            for share in (0.5, 0.99):
                own, beside = percentile(idle, share), percentile(busy, share)
                print(f"GET /api/jobs p{100 * share:.0f}: idle and empty {own:.2f} ms, beside a job and with "
                      f"{args.jobs} in the history {beside:.2f} ms: {beside / own:.1f}")
            if percentile(busy, 0.99) > 50:
                failed.append("lists are slow beside a running job")
        finally:
            server.terminate()
            server.wait(20)
    for line in failed[:20]:
        print("FAILED", line)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
