//! The servers: Kamailio and coturn, each on an address of its own, so that labs live beside each other.

use crate::certificates;
use crate::folder::{self, Folder};
use crate::netns::Place;
use crate::process::Process;
use crate::program::Siprtc;
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The realm and the domain of everybody.
pub const REALM: &str = "siprtc.test";
/// Everybody's password.
pub const PASSWORD: &str = "secret";
/// What coturn shares with those who make credentials for it.
const SECRET: &str = "restsecret";
/// The longest a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(20);

/// A place with servers and a folder for what they write.
#[derive(Debug)]
pub struct Lab {
    /// Where the programs run.
    pub place: Place,
    /// The servers' address.
    pub server: Ipv4Addr,
    /// The registrar and proxy.
    pub kamailio: Option<Process>,
    /// STUN and TURN.
    pub coturn: Option<Process>,
    /// What is written; dropped last, when nobody writes any more.
    pub folder: Folder,
}

/// What differs between Kamailios.
#[derive(Clone, Copy, Debug)]
pub struct KamailioSettings {
    /// Seconds until a nonce is stale.
    pub nonce_life: u32,
    /// `MD5`, `SHA-256`; empty: none is named, which means MD5.
    pub algorithm: &'static str,
    /// Speaks TLS at 5061, WS at 5080 and WSS at 5443, too, with a certificate for its address.
    pub secure: bool,
}

impl Default for KamailioSettings {
    fn default() -> Self {
        KamailioSettings {
            nonce_life: 300,
            algorithm: "",
            secure: false,
        }
    }
}

/// How one `siprtc` differs from the next.
#[derive(Clone, Debug)]
pub struct Phone {
    /// The user part of its address-of-record.
    pub user: String,
    /// Its password.
    pub password: String,
    /// `udp`, `tcp`, `tls`, `ws` or `wss`, to its server.
    pub transport: &'static str,
    /// The address that it binds.
    pub address: Ipv4Addr,
    /// STUN and TURN servers, as TOML.
    pub ice_servers: String,
    /// `--set` of other keys.
    pub settings: Vec<(String, String)>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Phone {
    /// A telephone of this user, at 127.0.0.1, over UDP.
    pub fn of(user: &str) -> Self {
        Phone {
            user: user.to_owned(),
            password: PASSWORD.to_owned(),
            transport: "udp",
            address: Ipv4Addr::LOCALHOST,
            ice_servers: "[]".to_owned(),
            settings: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Over this transport.
    #[must_use]
    pub fn over(mut self, transport: &'static str) -> Self {
        self.transport = transport;
        self
    }

    /// At this address.
    #[must_use]
    pub fn at(mut self, address: Ipv4Addr) -> Self {
        self.address = address;
        self
    }

    /// With another value of a key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn with_environment(mut self, key: &str, value: impl ToString) -> Self {
        self.environment.push((key.to_owned(), value.to_string()));
        self
    }

    /// With the lab's STUN server.
    #[must_use]
    pub fn with_stun(mut self, lab: &Lab) -> Self {
        self.ice_servers = format!("[{{ url = \"stun:{}:3478\" }}]", lab.server);
        self
    }

    /// With the lab's TURN server.
    #[must_use]
    pub fn with_turn(mut self, lab: &Lab) -> Self {
        let server = lab.server;
        self.ice_servers =
            format!("[{{ url = \"turn:{server}:3478\", username = \"alice\", password = \"{PASSWORD}\" }}]");
        self
    }

    /// With the lab's coturn as its TURN server over this: `udp`, `tcp`, `tls`; or over UDP with its `secret`.
    #[must_use]
    pub fn with_turn_over(mut self, lab: &Lab, way: &str) -> Self {
        let server = lab.server;
        let (url, who) = match way {
            "secret" => (format!("turn:{server}:3478"), format!("secret = \"{SECRET}\"")),
            "tls" => (
                format!("turns:{server}:5349"),
                format!("password = \"{PASSWORD}\""),
            ),
            way => (
                format!("turn:{server}:3478?transport={way}"),
                format!("password = \"{PASSWORD}\""),
            ),
        };
        self.ice_servers = format!("[{{ url = \"{url}\", username = \"alice\", {who} }}]");
        self.set("ice.tls.ca", lab.file(certificates::CA))
    }
}

impl Lab {
    /// An empty lab on loopback. Every lab has a server address of its own there, so that the servers' well-known ports
    /// are free for each.
    pub fn on_loopback(story: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let third = COUNT.fetch_add(1, Ordering::Relaxed);
        let host = u8::try_from(third).unwrap_or_else(|_| panic!("more than 255 labs in one process"));
        Lab::at(story, Place::Here, Ipv4Addr::new(127, high | 0x80, low, host))
    }

    /// An empty lab in a place, whose servers will have that address.
    pub fn at(story: &str, place: Place, server: Ipv4Addr) -> Self {
        Lab {
            place,
            server,
            kamailio: None,
            coturn: None,
            folder: Folder::new(story),
        }
    }

    /// Starts Kamailio.
    #[must_use]
    pub fn with_kamailio(self) -> Self {
        self.with_kamailio_that(KamailioSettings::default())
    }

    /// Starts Kamailio with other settings.
    #[must_use]
    pub fn with_kamailio_that(mut self, settings: KamailioSettings) -> Self {
        let text = include_str!("../lab/kamailio.cfg")
            .replace("@ADDRESS@", &self.server.to_string())
            .replace("@NONCE_LIFE@", &settings.nonce_life.to_string())
            .replace("@ALGORITHM@", settings.algorithm)
            .replace("@FOLDER@", &text(self.folder.path()));
        let file = self.folder.write("kamailio.cfg", text);
        let run = self.folder.join("kamailio");
        std::fs::create_dir_all(&run).unwrap_or_else(|error| panic!("{}: {error}", run.display()));
        let mut command = self.place.command("kamailio");
        // -DD: stay in the foreground; -E: log to standard error.
        command
            .args(["-DD", "-E", "-m", "64", "-M", "8", "-f"])
            .arg(file)
            .arg("-Y")
            .arg(&run);
        if settings.secure {
            command.args(["-A", "SECURE"]);
            certificates::write(&self.folder, self.server);
            let tls = format!(
                "[server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n\
                 private_key = {}\ncertificate = {}\n[client:default]\nverify_certificate = no\n",
                self.file(certificates::KEY),
                self.file(certificates::CHAIN),
            );
            self.folder.write("tls.cfg", tls);
        }
        let mut kamailio = Process::start("kamailio", &mut command, &self.folder.join("kamailio.log"));
        let (place, server) = (self.place.clone(), self.server);
        kamailio.ready(START, || {
            listens(&place, "tcp", server, 5060) && listens(&place, "udp", server, 5060)
        });
        self.kamailio = Some(kamailio);
        self
    }

    /// Starts coturn over UDP, TCP and TLS, with alice and bob in it.
    #[must_use]
    pub fn with_coturn(self) -> Self {
        let users = ["alice", "bob"].map(|user| format!("--user={user}:{PASSWORD}"));
        self.with_coturn_that(&[&["--lt-cred-mech".to_owned()][..], &users].concat())
    }

    /// Starts coturn with a secret that it shares with whoever makes credentials (TURN's REST API).
    #[must_use]
    pub fn with_coturn_of_a_secret(self) -> Self {
        // It opens a database in any case and fails without its tables, which are empty: its own tool makes them.
        let database = self.folder.join("coturn.sqlite");
        let made = self
            .place
            .command("turnadmin")
            .args(["-s", SECRET, "-r", REALM, "-b"])
            .arg(database)
            .output();
        assert!(
            made.as_ref().is_ok_and(|made| made.status.success()),
            "turnadmin: {made:?}"
        );
        self.with_coturn_that(&[
            "--use-auth-secret".to_owned(),
            format!("--static-auth-secret={SECRET}"),
        ])
    }

    fn with_coturn_that(mut self, who: &[String]) -> Self {
        let server = self.server.to_string();
        if !self.folder.join(certificates::KEY).exists() {
            certificates::write(&self.folder, self.server);
        }
        let mut command = self.place.command("turnserver");
        command
            .args(["-n", "--fingerprint", "--no-cli", "--no-dtls", "--no-rfc5780"])
            .args(who)
            .args([
                format!("--cert={}", self.file(certificates::CHAIN)),
                format!("--pkey={}", self.file(certificates::KEY)),
            ])
            .args([
                "--no-multicast-peers",
                "--log-file=stdout",
                "--simple-log",
                "--verbose",
            ])
            .args([
                format!("--listening-ip={server}"),
                format!("--relay-ip={server}"),
                format!("--realm={REALM}"),
            ])
            .args([
                "--listening-port=3478",
                "--tls-listening-port=5349",
                "--min-port=49160",
                "--max-port=49400",
            ])
            .arg(format!(
                "--userdb={}",
                self.folder.join("coturn.sqlite").display()
            ))
            .arg(format!("--pidfile={}", self.folder.join("coturn.pid").display()))
            .current_dir(self.folder.path());
        if matches!(self.place, Place::Here) {
            command.arg("--allow-loopback-peers");
        }
        let mut coturn = Process::start("coturn", &mut command, &self.folder.join("coturn.log"));
        let (place, server) = (self.place.clone(), self.server);
        coturn.ready(START, || listens(&place, "udp", server, 3478));
        self.coturn = Some(coturn);
        self
    }

    /// Kamailio, which must have been started.
    pub fn registrar(&self) -> &Process {
        self.kamailio
            .as_ref()
            .unwrap_or_else(|| panic!("this lab has no Kamailio"))
    }

    /// The home server of the program, where the lab's telephones look for their server.
    pub fn home(&self, users: &[&str]) -> Siprtc {
        let server = self.server;
        let user = |name: &&str| format!("[[home.users]]\nname = \"{name}\"\npassword = \"{PASSWORD}\"\n");
        let users: String = users.iter().map(user).collect();
        let config = self.folder.write(
            "home.toml",
            format!(
                "[home]\nrealm = \"{REALM}\"\nlisten = [\"udp:{server}:5060\", \"tcp:{server}:5060\"]\nturn = \"\"\n{users}"
            ),
        );
        let mut command = self.place.command(folder::siprtc());
        command
            .arg("--json")
            .arg("--config")
            .arg(config)
            .arg("serve-home");
        let mut home = Siprtc::start("home", &mut command, &self.folder.join("home.err"));
        home.event("serving", crate::program::SOON);
        home
    }

    /// Starts `siprtc --json` with this telephone's configuration and these arguments.
    pub fn start(&self, phone: &Phone, arguments: &[&str]) -> Siprtc {
        self.start_in(&self.place, phone, arguments)
    }

    /// The same in another place.
    pub fn start_in(&self, place: &Place, phone: &Phone, arguments: &[&str]) -> Siprtc {
        let config = self.configure(phone);
        let mut command = place.command(folder::siprtc());
        command.arg("--json").arg("--config").arg(config);
        phone.settings.iter().for_each(|(key, value)| {
            command.arg("--set").arg(format!("{key}={value}"));
        });
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .envs(phone.environment.iter().cloned())
            .env("RUST_BACKTRACE", "1");
        let errors = self.folder.join(format!(
            "{}-{}.err",
            phone.user,
            arguments.first().unwrap_or(&"siprtc")
        ));
        Siprtc::start(&format!("{} {arguments:?}", phone.user), &mut command, &errors)
    }

    /// Starts `siprtc answer` for a telephone and waits until it can be called.
    pub fn answering(&self, phone: &Phone, arguments: &[&str]) -> Siprtc {
        let mut all = vec!["answer"];
        all.extend(arguments);
        let mut answering = self.start(phone, &all);
        answering.event("ready", crate::program::SOON);
        answering
    }

    /// A path in the lab's folder as an argument.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn configure(&self, phone: &Phone) -> PathBuf {
        let Phone {
            user,
            password,
            transport,
            address,
            ice_servers,
            ..
        } = phone;
        let server = self.server;
        let loopback = address.is_loopback();
        // A client listens on nothing where it has no certificate, and nobody connects to a WebSocket client.
        let (port, listen) = match *transport {
            "tls" => (5061, "[]".to_owned()),
            "ws" => (5080, "[]".to_owned()),
            "wss" => (5443, "[]".to_owned()),
            _ => (5060, format!("[\"udp:{address}:0\", \"tcp:{address}:0\"]")),
        };
        let tls = match *transport {
            "tls" | "wss" => format!("[sip.tls]\nca = \"{}\"\n", self.file(certificates::CA)),
            _ => String::new(),
        };
        let text = format!(
            "[account]\nuri = \"sip:{user}@{REALM}\"\npassword = \"{password}\"\n\
             outbound = \"sip:{server}:{port};transport={transport}\"\n\n\
             [sip]\nlisten = {listen}\n{tls}\n\
             [ice]\nloopback = {loopback}\ninterfaces = [\"{address}\"]\nservers = {ice_servers}\n\n\
             [log]\nfilter = \"info\"\n",
        );
        self.folder.write(format!("{user}.toml"), text)
    }
}

/// Whether somebody listens there.
fn listens(place: &Place, transport: &str, server: Ipv4Addr, port: u16) -> bool {
    match (place, transport) {
        (Place::Here, "tcp") => TcpStream::connect((server, port)).is_ok(),
        // The port is taken when somebody has it.
        (Place::Here, _) => UdpSocket::bind((IpAddr::V4(server), port)).is_err(),
        (Place::Namespace(_), _) => {
            let output = place
                .command("ss")
                .args(["-Hln", if transport == "tcp" { "-t" } else { "-u" }])
                .output();
            let wanted = format!("{server}:{port} ");
            output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&wanted))
        }
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
