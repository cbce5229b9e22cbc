//! Compiles the BPF programs with clang; `src/xdp/program.rs` embeds the object.

use std::path::PathBuf;
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

/// Each becomes an object of its name.
const SOURCES: [&str; 2] = ["margay", "gso"];
const INCLUDED: [&str; 2] = ["bpf/began.h", "bpf/port.h"];

fn main() {
    let objects = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    assert!(
        Command::new("clang").arg("--version").output().is_ok_and(|out| out.status.success()),
        "margay-fastpath compiles its XDP programs with clang, which was not found: \
         `apt-get install clang llvm libbpf-dev` on Debian"
    );
    // <linux/types.h> includes <asm/types.h>, which Debian keeps in a directory of the machine's own.
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let headers = format!("-I/usr/include/{arch}-linux-gnu");
    for included in INCLUDED {
        println!("cargo::rerun-if-changed={included}");
    }
    for name in SOURCES {
        let (source, object) = (format!("bpf/{name}.bpf.c"), objects.join(format!("{name}.bpf.o")));
        println!("cargo::rerun-if-changed={source}");
        let built = SkeletonBuilder::new()
            .source(&source)
            .obj(object)
            .clang_args(["-Wall", "-Werror", &headers])
            .build();
        if let Err(error) = built {
            panic!(
                "{source} does not compile: {error:#}\nDebian has its headers in linux-libc-dev and libbpf-dev"
            );
        }
    }
}
