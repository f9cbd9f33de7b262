"""Reads a region of weir as docs/region.md describes it, and prints what is in it.

usage: reader.py REGION
"""

import ipaddress
import os
import struct
import sys
import zlib

STATES = {1: "starting", 2: "running", 3: "parked", 4: "quitting", 5: "full"}


class Damaged(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Damaged(what)


def up(number, multiple):
    return (number + multiple - 1) // multiple * multiple


def low(word):
    return word & 0xFFFFFFFF


def high(word):
    return word >> 32


class Region:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)
        head = self.words(0, 83)
        check(struct.pack("=Q", head[0]) == b"weir-shm", "not a region")
        check(head[1] == 3, "layout version")
        check(zlib.crc32(struct.pack("=20Q", *head[:20])) == head[20], "checksum of the header")
        check(head[2] == os.fstat(self.fd).st_size, "size")
        self.head = head
        self.servers, self.upstreams, self.workers, self.slots, self.history_bytes = head[3:8]
        self.text_bytes = 4096 + 64 * self.upstreams + 16 * self.servers
        self.slot_words = up(
            9 + 4 * self.upstreams + 9 * self.servers + up(self.text_bytes, 8) // 8, 16
        )
        self.tables = 512
        self.tenancy = self.tables + self.slots * self.slot_words
        self.history_at = up(self.tenancy + self.servers, 16)
        self.history_words = up(self.history_bytes, 8) // 8
        self.report_at = up(self.history_at + self.history_words, 16)
        self.report_bytes = 65536 + 512 * self.upstreams
        self.report_words = up(3 + self.report_bytes // 8, 16)
        self.live = up(self.report_at + 2 * self.report_words, 512)
        self.scoreboard = self.live + 16
        self.latencies = self.scoreboard + 16 * (self.workers + 1)
        self.failures = self.latencies + 48 * (self.workers + 2)
        self.counters = up(self.failures + 272 * self.workers, 512)
        self.counters_words = up(8 * self.servers, 512)
        self.size = self.counters + self.counters_words * (self.workers + 1)
        stated = [word // 8 for word in head[9:20]]
        computed = [
            self.tables, self.slot_words, self.tenancy, self.history_at,
            self.report_at, self.report_words, self.scoreboard, self.latencies,
            self.failures, self.counters, self.counters_words,
        ]  # fmt: skip
        check(stated == computed, f"offsets {stated} are not {computed}")
        check(head[2] == 8 * self.size, "size is not that of the capacities")

    def words(self, first, count):
        data = os.pread(self.fd, 8 * count, 8 * first)
        check(len(data) == 8 * count, "truncated")
        return struct.unpack(f"={count}Q", data)

    def moving(self, word):
        while True:
            first, second = self.words(word, 1), self.words(word, 1)
            if first == second:
                return first[0]

    def version(self):
        return self.moving(64)

    def table(self):
        for _ in range(1000):
            version = self.version()
            if version == 0:
                return None
            first = self.tables + version % self.slots * self.slot_words
            head = self.words(first, 9)
            used = min(head[1], self.slot_words)
            words = self.words(first, max(used, 9))
            if self.version() - version >= self.slots - 1:
                continue
            check(words[0] == version, "the slot has another version")
            check(words[1] == used, "words in use")
            bare = struct.pack(f"={used - 1}Q", *words[:8], *words[9:])
            check(zlib.crc32(bare) == words[8], "checksum of the table")
            return Table(self, words)
        raise Damaged("busy")

    def report(self):
        for _ in range(1000):
            version = self.moving(80)
            if version == 0:
                return b""
            first = self.report_at + version % 2 * self.report_words
            length = min(self.words(first, 3)[1], self.report_bytes)
            words = self.words(first, 3 + up(length, 8) // 8)
            if self.moving(80) != version:
                continue
            check(words[:2] == (version, length), "head of the report")
            bare = struct.pack(f"={len(words) - 1}Q", *words[:2], *words[3:])
            check(zlib.crc32(bare) == words[2], "checksum of the report")
            return struct.pack(f"={len(words) - 3}Q", *words[3:])[:length]
        raise Damaged("busy")

    def history(self):
        for _ in range(1000):
            tail, head = self.moving(81), self.moving(82)
            if head - tail > self.history_words:
                check(self.moving(81) != tail, "ends of the history")
                continue
            first, count = tail % self.history_words, head - tail
            straight = min(count, self.history_words - first)
            words = self.words(self.history_at + first, straight)
            words += self.words(self.history_at, count - straight)
            now = self.moving(81)
            if now > head:
                continue
            return list(self.records(now, words[now - tail :]))
        raise Damaged("busy")

    def records(self, position, words):
        while words:
            place, length, version, checksum = words[:4]
            check(place == position, "place of a record")
            lost = length == 2**64 - 1
            count = 4 + (0 if lost else up(length, 8) // 8)
            check(count <= len(words), "length of a record")
            bare = struct.pack(f"={count - 1}Q", *words[:3], *words[4:count])
            check(zlib.crc32(bare) == checksum, "checksum of a record")
            text = struct.pack(f"={count - 4}Q", *words[4:count])
            yield version, None if lost else text[:length]
            position += count
            words = words[count:]

    def latency(self, row):
        words = self.words(self.latencies + 48 * row, 34)
        buckets = [f"{n}:{count}" for n, count in enumerate(words[:32]) if count]
        return f"sum {words[32]} longest {words[33]}" + "".join(f" {b}" for b in buckets)

    def rows(self):
        for worker in range(self.workers):
            row = self.words(self.scoreboard + 16 * worker, 16)
            if row[0] != 0:
                yield worker, row

    def counts(self, counter):
        index, incarnation = low(counter), high(counter)
        sums = [0] * 6
        for worker in range(self.workers + 1):
            row = self.words(self.counters + worker * self.counters_words + 8 * index, 8)
            if high(row[0]) == incarnation:
                sums[0] += low(row[0])
                sums[1:5] = [a + b for a, b in zip(sums[1:5], row[1:5])]
                sums[5] = max(sums[5], row[5])
        return sums

    def noted(self):
        for worker in range(self.workers):
            ring = self.failures + 272 * worker
            count = self.words(ring, 1)[0]
            for number in range(max(0, count - 256), count):
                yield worker, self.words(ring + 16 + number % 256, 1)[0]


class Table:
    def __init__(self, region, words):
        upstreams, servers, leaving, length = words[2:6]
        check(upstreams <= region.upstreams, "upstreams")
        check(servers + leaving <= region.servers, "servers")
        at_servers = 9 + 4 * upstreams
        at_leaving = at_servers + 7 * servers
        at_text = at_leaving + 9 * leaving
        check(words[1] == at_text + up(length, 8) // 8, "words in use")
        self.version, self.seen, self.published = words[0], words[6], words[7]
        self.text = struct.pack(f"={len(words) - at_text}Q", *words[at_text:])[:length]
        self.upstreams = []
        expected = 0
        for number in range(upstreams):
            name, changed, span, template = words[9 + 4 * number : 13 + 4 * number]
            first, count, learned = low(span), high(span) & 0x7FFFFFFF, span >> 63
            check(first == expected, "first server")
            check(template <= upstreams, "template")
            expected += count
            records = [
                words[at_servers + 7 * n : at_servers + 7 * n + 7]
                for n in range(first, first + count)
            ]
            self.upstreams.append((self.string(name).decode(), changed, learned, records))
        check(expected == servers, "servers without an upstream")
        self.leaving = [
            words[at_leaving + 9 * n : at_leaving + 9 * n + 9] for n in range(leaving)
        ]

    def string(self, reference):
        at, length = low(reference), high(reference)
        check(at + length <= len(self.text), "text reference")
        return self.text[at : at + length]

    def server(self, record):
        first = record[0]
        kind, port, weight = first & 0xFF, first >> 16 & 0xFFFF, high(first)
        if kind == 1:
            address = f"{ipaddress.IPv4Address(record[1])}:{port}"
        elif kind == 2:
            ip = ipaddress.IPv6Address(record[1] << 64 | record[2])
            scope = high(record[3])
            address = f"[{ip}{f'%{scope}' if scope else ''}]:{port}"
        else:
            check(kind == 3, "kind of address")
            address = "unix:" + self.string(record[1]).decode()
        flags = (" down" if first >> 8 & 1 else "") + (" backup" if first >> 9 & 1 else "")
        return (
            f"{address} weight={weight} max_fails={record[4]} fail_timeout={record[5]}{flags}"
            f" counter={low(record[6])}/{high(record[6])}"
        )


def main(path):
    region = Region(path)
    print(f"boot {region.head[8]} master {region.head[24]} writer {region.head[25]}")
    table = region.table()
    if table:
        print(f"version {table.version}")
        print(f"seen {table.seen} published {table.published}")
        for name, changed, learned, records in table.upstreams:
            print(f"upstream {name} changed {changed} learned {learned}")
            for record in records:
                print(f"server {table.server(record)}")
                print("counts", *region.counts(record[6]))
        for record in table.leaving:
            upstream = table.string(record[7]).decode()
            print(f"leaving {upstream} {table.server(record[:7])} dropped {record[8]}")
    for worker, row in region.rows():
        print(f"worker {worker} pid {row[0]} {STATES[row[1]]}", *row[2:14])
    for worker, counter in region.noted():
        print(f"failure {worker} {low(counter)}/{high(counter)}")
    for row, name in enumerate([*range(region.workers), "gone", "published"]):
        print(f"latency {name} {region.latency(row)}")
    for version, text in region.history():
        print(f"record {version} {'lost' if text is None else text.decode()}")
    print(f"report {region.report().decode()}")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Damaged as damage:
        sys.exit(f"damaged: {damage}")
