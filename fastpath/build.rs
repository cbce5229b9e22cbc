//! Compiles the BPF programs with clang; `src/xdp/program.rs` embeds the object.

use std::path::PathBuf;
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "bpf/margay.bpf.c";
const INCLUDED: &str = "bpf/began.h";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed={INCLUDED}");
    let object = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("margay.bpf.o");
    assert!(
        Command::new("clang").arg("--version").output().is_ok_and(|out| out.status.success()),
        "margay-fastpath compiles its XDP program with clang, which was not found: \
         `apt-get install clang llvm libbpf-dev` on Debian"
    );
    // <linux/types.h> includes <asm/types.h>, which Debian keeps in a directory of the machine's own.
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let headers = format!("-I/usr/include/{arch}-linux-gnu");
    if let Err(error) =
        SkeletonBuilder::new().source(SOURCE).obj(&object).clang_args(["-Wall", "-Werror", &headers]).build()
    {
        panic!(
            "{SOURCE} does not compile: {error:#}\nDebian has its headers in linux-libc-dev and libbpf-dev"
        );
    }
}
