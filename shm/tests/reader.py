"""Reads a region of weir as docs/region.md describes it, and prints what is in it.

usage: reader.py REGION
"""

import ipaddress
import os
import struct
import sys
import zlib

STATES = {1: "starting", 2: "running", 3: "parked", 4: "quitting"}


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
        head = self.words(0, 65)
        check(struct.pack("=Q", head[0]) == b"weir-shm", "not a region")
        check(head[1] == 2, "layout version")
        check(zlib.crc32(struct.pack("=15Q", *head[:15])) == head[15], "checksum of the header")
        check(head[2] == os.fstat(self.fd).st_size, "size")
        self.head = head
        self.servers, self.upstreams, self.workers, self.slots = head[3:7]
        self.text_bytes = 4096 + 64 * self.upstreams + 16 * self.servers
        self.slot_words = up(
            8 + 3 * self.upstreams + 9 * self.servers + up(self.text_bytes, 8) // 8, 16
        )
        self.tables = 512
        self.tenancy = self.tables + self.slots * self.slot_words
        self.live = up(self.tenancy + self.servers, 512)
        self.scoreboard = self.live + 16
        self.failures = self.scoreboard + 16 * (self.workers + 1)
        self.counters = up(self.failures + 272 * self.workers, 512)
        self.counters_words = up(8 * self.servers, 512)
        self.size = self.counters + self.counters_words * (self.workers + 1)
        stated = [word // 8 for word in head[8:15]]
        computed = [
            self.tables, self.slot_words, self.tenancy, self.scoreboard,
            self.failures, self.counters, self.counters_words,
        ]  # fmt: skip
        check(stated == computed, f"offsets {stated} are not {computed}")
        check(head[2] == 8 * self.size, "size is not that of the capacities")

    def words(self, first, count):
        data = os.pread(self.fd, 8 * count, 8 * first)
        check(len(data) == 8 * count, "truncated")
        return struct.unpack(f"={count}Q", data)

    def version(self):
        while True:
            first, second = self.words(64, 1), self.words(64, 1)
            if first == second:
                return first[0]

    def table(self):
        for _ in range(1000):
            version = self.version()
            if version == 0:
                return None
            first = self.tables + version % self.slots * self.slot_words
            head = self.words(first, 8)
            used = min(head[1], self.slot_words)
            words = self.words(first, max(used, 8))
            if self.version() - version >= self.slots - 1:
                continue
            check(words[0] == version, "the slot has another version")
            check(words[1] == used, "words in use")
            bare = struct.pack(f"={used - 1}Q", *words[:7], *words[8:])
            check(zlib.crc32(bare) == words[7], "checksum of the table")
            return Table(self, words)
        raise Damaged("busy")

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
        at_servers = 8 + 3 * upstreams
        at_leaving = at_servers + 7 * servers
        at_text = at_leaving + 9 * leaving
        check(words[1] == at_text + up(length, 8) // 8, "words in use")
        self.version = words[0]
        self.text = struct.pack(f"={len(words) - at_text}Q", *words[at_text:])[:length]
        self.upstreams = []
        expected = 0
        for number in range(upstreams):
            name, changed, span = words[8 + 3 * number : 11 + 3 * number]
            first, count, learned = low(span), high(span) & 0x7FFFFFFF, span >> 63
            check(first == expected, "first server")
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
    print(f"boot {region.head[7]} master {region.head[16]} writer {region.head[17]}")
    table = region.table()
    if table:
        print(f"version {table.version}")
        for name, changed, learned, records in table.upstreams:
            print(f"upstream {name} changed {changed} learned {learned}")
            for record in records:
                print(f"server {table.server(record)}")
                print("counts", *region.counts(record[6]))
        for record in table.leaving:
            upstream = table.string(record[7]).decode()
            print(f"leaving {upstream} {table.server(record[:7])} dropped {record[8]}")
    for worker, row in region.rows():
        print(f"worker {worker} pid {row[0]} {STATES[row[1]]}", *row[2:13])
    for worker, counter in region.noted():
        print(f"failure {worker} {low(counter)}/{high(counter)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Damaged as damage:
        sys.exit(f"damaged: {damage}")
