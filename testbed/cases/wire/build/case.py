"""A case: frames that come in, in order of time, what becomes of each, and the frames that leave."""

import json
import shutil
from pathlib import Path

from scapy.utils import RawPcapWriter

HOME = Path(__file__).resolve().parent.parent
MICROSECONDS = 1_000_000
STEP = 1000

_cases = {}


class Case:
    """`sentence` is what the case holds; `config` what margay.toml has to say; `manifests` the world that it is in."""

    def __init__(self, name, sentence, config=None, manifests="manifests"):
        assert name not in _cases, name
        _cases[name] = self
        self.name, self.sentence, self.config, self.manifests = name, sentence, config, manifests
        self.inputs, self.outputs, self.fates = {}, {}, []
        # Microseconds, of the last frame and to the next.
        self.time, self.step = 0, STEP

    def forwards(self, port, frame, to, *sent):
        """`frame` comes in by `port` and leaves by `to` as the frames `sent`."""
        self._enters(port, frame, f"tx {to}")
        self.sends(to, *sent)

    def drops(self, port, frame, reason, *answers):
        """`frame` ends here; an answer is a port and a frame."""
        self._enters(port, frame, f"drop {reason}")
        for to, answer in answers:
            self.sends(to, answer)

    def passes(self, port, frame):
        """The kernel has `frame`."""
        self._enters(port, frame, "pass")

    def waits(self, port, frame):
        """`frame` is a fragment that comes before the first one of its datagram."""
        self._enters(port, frame, "waits")

    def sends(self, to, *frames):
        """These leave now."""
        self.outputs.setdefault(to, []).extend((self.time, bytes(frame)) for frame in frames)

    def after(self, seconds):
        """The next frame comes so much later."""
        self.time += round(seconds * MICROSECONDS)

    def _enters(self, port, frame, fate):
        self.time += self.step
        frames = self.inputs.setdefault(port, [])
        self.fates.append({"in": port, "frame": len(frames), "fate": fate})
        frames.append((self.time, bytes(frame)))
        # Where nothing is expected, nothing may leave.
        self.outputs.setdefault("uplink0", [])

    def write(self):
        home = HOME / self.name
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        words = ["margay replay", f"--manifests ../{self.manifests}", "--node gw-a"]
        if self.config:
            (home / "margay.toml").write_text(self.config + "\n")
            words.append("--config margay.toml")
        for port, frames in self.inputs.items():
            name = f"in-{port.replace('/', '_')}.pcap"
            words.append(f"--in {port}={name}")
            write_capture(home / name, frames)
        for port, frames in self.outputs.items():
            write_capture(home / f"out-{port.split('/')[-1]}.pcap", frames)
        words.append("--out OUT -o json")
        (home / "README").write_text(f"{self.sentence}\n{' '.join(words)}\n")
        fates = ",\n".join(json.dumps(fate) for fate in self.fates)
        (home / "fates.json").write_text(f"[{fates}]\n")


def write_capture(path, frames):
    with RawPcapWriter(str(path), linktype=1, endianness="<", snaplen=1 << 17) as capture:
        capture.write_header(None)
        for time, frame in frames:
            capture.write_packet(frame, sec=time // MICROSECONDS, usec=time % MICROSECONDS)


def write_all(names):
    unknown = set(names) - set(_cases)
    assert not unknown, f"no such case: {unknown}"
    for name in names or _cases:
        _cases[name].write()
