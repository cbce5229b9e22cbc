//! A real API server and its etcd: started, killed and started again, gone with their owner.
//!
//! Each is a process of this one's that the kernel kills if this one dies; what they write is in a directory of their own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Client;
use super::etcd::Etcd;
use super::reserve::Reserved;
use super::resource::{CORE, Resource};
use super::site::Site;
use crate::measure::Running;

/// How long the server may take to be ready; only one that fails takes so long.
const START: Duration = Duration::from_secs(90);

/// Users that the server knows: the name, and the group.
const USERS: [(&str, &str); 2] = [(ADMIN, "system:masters"), (DATAPLANE, "dataplane")];
/// May do everything.
pub const ADMIN: &str = "admin";
/// May do what its roles say.
pub const DATAPLANE: &str = "dataplane";

/// The servers.
#[derive(Debug)]
pub struct Server {
    binaries: PathBuf,
    site: Site,
    directory: TempDir,
    ports: Ports,
    /// Keeps the ports through restarts.
    _reserved: Vec<Reserved>,
    api: Option<Running>,
    etcd: Option<Running>,
}

#[derive(Debug)]
struct Ports {
    api: u16,
    etcd: u16,
    peers: u16,
}

impl Server {
    /// Starts both from the directory of `kube-apiserver` and `etcd`, and waits until they serve every core kind.
    pub fn start(binaries: &Path, site: Site) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("margay-kube.").tempdir().context("no directory")?;
        let (ports, reserved) = Ports::at(&site)?;
        let etcd = start_etcd(binaries, &site, directory.path(), &ports)?;
        let mut server = Self {
            binaries: binaries.to_owned(),
            site,
            directory,
            ports,
            _reserved: reserved,
            api: None,
            etcd: Some(etcd),
        };
        server.make_keys()?;
        server.write_users()?;
        server.start_api()?;
        let own = CORE.iter().filter(|resource| resource.kind == "EndpointSlice").copied();
        server.install(&own.collect::<Vec<_>>())?;
        Ok(server)
    }

    pub fn address(&self) -> SocketAddr {
        (self.site.address(), self.ports.api).into()
    }

    /// A kubeconfig of the user's, [`ADMIN`] or [`DATAPLANE`].
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.directory.path().join(format!("{user}.kubeconfig"))
    }

    /// A client of the user's.
    pub fn client(&self, user: &str) -> Result<Client> {
        Client::new(&self.kubeconfig(user), self.site.netns())
    }

    /// The certificate of who vouches for the API server.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// What the API server keeps its objects in.
    pub fn etcd(&self) -> Result<Etcd> {
        Etcd::new(self.ports.etcd, self.site.netns())
    }

    /// Kills the API server. What it held is in etcd.
    pub fn kill_api(&mut self) {
        self.api = None;
    }

    /// Copies what etcd holds, by way of a restart of both.
    pub fn back_up(&mut self) -> Result<()> {
        self.restart_after(copy)
    }

    /// Puts back what [`Self::back_up`] copied, by way of another restart.
    pub fn restore(&mut self) -> Result<()> {
        self.restart_after(|etcd, backup| {
            fs::remove_dir_all(etcd).context("cannot remove what etcd held")?;
            copy(backup, etcd)
        })
    }

    fn restart_after(&mut self, work: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<()> {
        (self.api, self.etcd) = (None, None);
        let directory = self.directory.path();
        work(&directory.join("etcd"), &directory.join("backup"))?;
        self.etcd = Some(start_etcd(&self.binaries, &self.site, directory, &self.ports)?);
        self.start_api()
    }

    /// Starts the API server where it was, and waits until it is ready.
    pub fn start_api(&mut self) -> Result<()> {
        let directory = self.directory.path();
        let file = |name: &str| directory.join(name).display().to_string();
        let mut command = self.site.command(&self.binaries.join("kube-apiserver"));
        command.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            format!("--bind-address={}", self.site.address()),
            format!("--advertise-address={}", self.site.address()),
            format!("--secure-port={}", self.ports.api),
            // Nobody is to find the server by a service.
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("server.crt")),
            format!("--service-account-signing-key-file={}", file("server.key")),
            // Without it the server drops every address but the first.
            "--feature-gates=IPv6DualStack=true".to_owned(),
            // No controller makes service accounts and no kubelet makes nodes ready; the last two ask etcd at each pod.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,LimitRanger,ResourceQuota"
                .to_owned(),
            // It serves the beta of EndpointSlice alone; the version of today is a definition that is installed.
            "--runtime-config=discovery.k8s.io/v1beta1=false".to_owned(),
        ]);
        self.api = Some(start(command, &directory.join("apiserver.log"))?);
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let client = self.client(ADMIN)?;
        let deadline = Instant::now() + START;
        while client.get("/readyz").is_err() {
            let ended = match &mut self.api {
                Some(api) => api.child().try_wait().context("cannot ask for the server's state")?,
                None => None,
            };
            if ended.is_some() || Instant::now() > deadline {
                bail!("the API server is not ready; its log ends:\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.directory.path().join("apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Installs definitions of these kinds and waits until they are served.
    pub fn install(&self, resources: &[Resource]) -> Result<()> {
        let client = self.client(ADMIN)?;
        for resource in resources {
            client.apply(&resource.definition())?;
        }
        let deadline = Instant::now() + START;
        for resource in resources {
            while client.get(&resource.collection(None)).is_err() {
                if Instant::now() > deadline {
                    bail!("{} is not served; the server's log ends:\n{}", resource.plural, self.log_tail());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Deletes the definitions of these kinds, and their objects with them.
    pub fn uninstall(&self, resources: &[Resource]) -> Result<()> {
        let client = self.client(ADMIN)?;
        resources.iter().try_for_each(|resource| client.delete(&resource.definition()))
    }

    /// Lets the user `dataplane` do what these rules of a role say.
    pub fn grant(&self, rules: &Value) -> Result<()> {
        let client = self.client(ADMIN)?;
        client.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": DATAPLANE}, "rules": rules,
        }))?;
        client.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": DATAPLANE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": DATAPLANE},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DATAPLANE}],
        }))
    }

    /// Gives the user another token, which the API server knows from its next start on.
    pub fn set_token(&self, user: &str, token: &str) -> Result<()> {
        write(&self.directory.path().join(format!("{user}.token")), token)?;
        self.write_tokens()
    }

    fn write_users(&self) -> Result<()> {
        for (user, _) in USERS {
            let file = |name: &str| self.directory.path().join(name).display().to_string();
            let kubeconfig = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": user,
                "clusters": [{"name": "test", "cluster": {
                    "server": format!("https://{}", self.address()),
                    "certificate-authority": file("ca.crt"),
                }}],
                "users": [{"name": user, "user": {"tokenFile": file(&format!("{user}.token"))}}],
                "contexts": [{"name": user, "context": {"cluster": "test", "user": user}}],
            });
            // JSON is YAML.
            write(&self.kubeconfig(user), &kubeconfig.to_string())?;
            write(&self.directory.path().join(format!("{user}.token")), &format!("token-of-{user}"))?;
        }
        self.write_tokens()
    }

    fn write_tokens(&self) -> Result<()> {
        let line = |(user, group)| {
            let path = self.directory.path().join(format!("{user}.token"));
            let token = fs::read_to_string(&path);
            let token = token.with_context(|| format!("cannot read {}", path.display()))?;
            Ok(format!("{token},{user},{user},{group}\n"))
        };
        let text = USERS.into_iter().map(line).collect::<Result<String>>()?;
        write(&self.directory.path().join("tokens.csv"), &text)
    }

    /// A certificate authority, and the server's key and certificate.
    fn make_keys(&self) -> Result<()> {
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        let names = format!("subjectAltName=IP:{},DNS:kubernetes.default.svc", self.site.address());
        let authority = ["-subj", "/CN=test-ca", "-keyout", "ca.key", "-out", "ca.crt"];
        let server = [
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-subj",
            "/CN=kube-apiserver",
            "-keyout",
            "server.key",
            "-out",
            "server.crt",
            "-addext",
            &names,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "extendedKeyUsage=serverAuth",
        ];
        for arguments in [&authority[..], &server[..]] {
            let output = Command::new("openssl")
                .args(["req", "-x509"])
                .args(key)
                .args(arguments)
                .current_dir(self.directory.path())
                .output()
                .context("cannot run `openssl`: install the package openssl")?;
            if !output.status.success() {
                bail!("openssl made no certificate: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(())
    }
}

impl Ports {
    /// Ports that are free, and what keeps them so; in a namespace of the servers' own all are.
    fn at(site: &Site) -> Result<(Self, Vec<Reserved>)> {
        match site {
            Site::Loopback => {
                let reserved = vec![Reserved::new(site)?, Reserved::new(site)?, Reserved::new(site)?];
                let [api, etcd, peers] = [0, 1, 2].map(|index: usize| reserved[index].port());
                Ok((Self { api, etcd, peers }, reserved))
            }
            Site::Netns { .. } => Ok((Self { api: 6443, etcd: 2379, peers: 2380 }, Vec::new())),
        }
    }
}

fn start_etcd(binaries: &Path, site: &Site, directory: &Path, ports: &Ports) -> Result<Running> {
    let (clients, peers) =
        (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.peers));
    let mut command = site.command(&binaries.join("etcd"));
    command.arg("--data-dir").arg(directory.join("etcd")).args([
        "--listen-client-urls",
        &clients,
        "--advertise-client-urls",
        &clients,
        "--listen-peer-urls",
        &peers,
        "--initial-advertise-peer-urls",
        &peers,
        "--initial-cluster",
        &format!("default={peers}"),
        // Nothing here is to outlive the machine.
        "--unsafe-no-fsync",
        // 100,000 pods, written and changed again, are more than the 2 GiB that it takes by itself.
        "--quota-backend-bytes=8589934592",
    ]);
    start(command, &directory.join("etcd.log"))
}

/// Starts the command with its output added to the log.
fn start(mut command: Command, log: &Path) -> Result<Running> {
    let file = File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("cannot open {}", log.display()))?;
    let output = file.try_clone().context("cannot share the log's descriptor")?;
    Running::start(command.stdin(Stdio::null()).stdout(output).stderr(file))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status().context("cannot run `cp`")?;
    if !copied.success() {
        bail!("cannot copy {} to {}", from.display(), to.display());
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
