//! x
pub fn run(_: &std::path::Path, _: &str, _: std::path::PathBuf) -> anyhow::Result<bool> {
    Ok(true)
}
