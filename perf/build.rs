//! Compiles the lab's BPF programs with clang; `src/lab/load` embeds the objects.

use std::path::PathBuf;
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

const PROGRAMS: [&str; 3] = ["source", "sink", "connect"];
const INCLUDED: &str = "bpf/stamp.h";

fn main() {
    println!("cargo::rerun-if-changed={INCLUDED}");
    assert!(
        Command::new("clang").arg("--version").output().is_ok_and(|out| out.status.success()),
        "margay-perf compiles its BPF programs with clang, which was not found: \
         `apt-get install clang llvm libbpf-dev` on Debian"
    );
    let directory = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // <linux/types.h> includes <asm/types.h>, which Debian keeps in a directory of the machine's own.
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let headers = format!("-I/usr/include/{arch}-linux-gnu");
    // Atomic operations that return what was there are of the third instruction set.
    let arguments = ["-Wall", "-Werror", "-mcpu=v3", &headers];
    for program in PROGRAMS {
        let source = format!("bpf/{program}.bpf.c");
        println!("cargo::rerun-if-changed={source}");
        let object = directory.join(format!("{program}.bpf.o"));
        if let Err(error) = SkeletonBuilder::new().source(&source).obj(object).clang_args(arguments).build() {
            panic!(
                "{source} does not compile: {error:#}\nDebian has its headers in linux-libc-dev and libbpf-dev"
            );
        }
    }
}
