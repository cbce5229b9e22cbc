"""Builds the cases, every frame of theirs by scapy: python3 testbed/cases/wire/build [NAME...]

A group of cases is a module. What becomes of a frame is said here and nowhere else: no output of Margay's is read.
"""

import sys

import case
import checksums
import fragments
import icmp
import link
import malformed
import mtu
import options
import policy
import protocols
import sources
import ttl
import tunnels

for group in (checksums, fragments, icmp, link, malformed, mtu, options, policy, protocols, sources, ttl, tunnels):
    group.define()
case.write_all(sys.argv[1:])
