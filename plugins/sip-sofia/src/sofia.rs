//! Safe words over the library: an agent with its event loop, messages, transports and transactions.
//!
//! **One thread.** Everything here lives and dies on the thread that made the [`Agent`]: no type is `Send`. What the
//! library has to say reaches that thread's one [`Hear`] function as [`Heard`], from within [`Agent::step`] or from
//! within any other call that makes the library notice something.
//!
//! **Lifetimes.** Whatever points into the agent keeps it alive (`Rc<Home>`), so the order of drops does not matter.

mod calls;
mod class;
mod connections;
mod log;
mod message;
mod tags;
mod transactions;
mod transport;

pub(crate) use calls::{Hear, Heard, Said};
pub(crate) use connections::Connection;
pub(crate) use log::recent as recent_log;
pub(crate) use message::Message;
pub(crate) use transactions::{Incoming, Outgoing};
pub(crate) use transport::{Arrival, Hop, Transport, TransportId, Watch};

use crate::ffi;
use calls::{message_heard, response_heard, woken};
use siprtc_core::sip::TimerConfig;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::time::Duration;
use tags::Tags;

/// RFC 3261's timer C, which is for proxies: it would cancel a telephone that rings for three minutes. 15 days is the
/// longest that sofia takes.
const TIMER_C_MS: usize = 15 * 24 * 3600 * 1000;

/// Largest request that goes over UDP; sofia would else try TCP from 1,300 octets on, which is `sip-locate`'s to decide.
const UDP_MTU: usize = 65_535;

/// Most messages that wait for a connection that does not take them; beyond it sending fails. The most that sofia takes.
const QUEUED_MESSAGES: usize = 999;

/// How long a stream may take to complete a message.
const PARTIAL_MESSAGE: Duration = Duration::from_secs(20);

/// `nta_agent_create`'s "no sockets yet".
const NO_URL: usize = usize::MAX;

/// How an agent behaves.
pub(crate) struct Behaviour {
    pub(crate) timers: TimerConfig,
    /// Most octets of a message's body.
    pub(crate) message_octets: usize,
    /// Most connections; one that others open beyond it is closed at once.
    pub(crate) connections: usize,
}

/// The agent, its event loop and what wakes it.
#[derive(Clone)]
pub(crate) struct Agent(Rc<Home>);

/// Owns the library's objects; dropped with the last thing that points into them.
struct Home {
    root: *mut ffi::SuRoot,
    agent: *mut ffi::NtaAgent,
    wake: c_int,
    /// The descriptor that is registered, open as long as it is.
    _wake_fd: OwnedFd,
    /// What transports are called. nta keeps a pointer to the name with every client transaction.
    idents: RefCell<Vec<CString>>,
}

impl Agent {
    /// An agent without transports, on this thread; `hear` gets what it has to say, and [`Heard::Woken`] when `wake` is
    /// readable.
    pub(crate) fn start(behaviour: &Behaviour, wake: OwnedFd, hear: Hear) -> io::Result<Agent> {
        log::redirect();
        connections::watch()?;
        calls::listen(hear);
        class::limit_body(behaviour.message_octets);
        connections::limit(behaviour.connections);
        // SAFETY: no arguments; balanced by `su_deinit` in `Home::drop`.
        if unsafe { ffi::su_init() } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `su_init` was called on this thread; the magic is never read.
        let root = unsafe { ffi::su_root_create(ptr::null_mut()) };
        let mut home = Home {
            root,
            agent: ptr::null_mut(),
            wake: -1,
            _wake_fd: wake,
            idents: RefCell::default(),
        };
        if root.is_null() {
            return Err(io::Error::last_os_error());
        }
        home.register_wake()?;
        let tags = nta_tags(behaviour);
        let (tag, value) = tags.list();
        // SAFETY: the root is alive and this thread's; NO_URL is nta's own constant for "no transport yet"; the tags
        // outlive the call and end; the callback lives as long as the program, and its magic is never dereferenced.
        home.agent = unsafe {
            ffi::nta_agent_create(
                root,
                ptr::without_provenance(NO_URL),
                message_heard,
                ptr::null_mut(),
                tag,
                value,
            )
        };
        if home.agent.is_null() {
            return Err(io::Error::last_os_error());
        }
        let home = Rc::new(home);
        calls::settle(&home);
        Ok(Agent(home))
    }

    /// Listens at `url` (`sip:127.0.0.1:0;transport=udp`) and calls that transport `ident`, or only connects from it.
    pub(crate) fn add_transport(&self, url: &str, ident: &str, listens: bool) -> io::Result<()> {
        let url = CString::new(url).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let ident = CString::new(ident).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let tags = Tags::new()
            .pointer(&raw const ffi::tptag_ident, ident.as_ptr().cast_mut())
            .number(&raw const ffi::tptag_server, usize::from(listens))
            .number(&raw const ffi::tptag_sdwn_error, 1)
            .number(&raw const ffi::tptag_pong2ping, 1)
            .number(&raw const ffi::tptag_queuesize, QUEUED_MESSAGES)
            .number(&raw const ffi::tptag_timeout, millis(PARTIAL_MESSAGE));
        let (tag, value) = tags.list();
        // SAFETY: the agent is alive; the URL is a C string; the tags outlive the call and end.
        let added = unsafe { ffi::nta_agent_add_tport(self.0.agent, url.as_ptr(), tag, value) };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
        self.0.idents.borrow_mut().push(ident);
        Ok(())
    }

    /// The transport that was added as `ident`.
    pub(crate) fn transport(&self, ident: &str) -> Option<Transport> {
        // SAFETY: the agent is alive.
        let mut next = unsafe { ffi::tport_primaries(ffi::nta_agent_tports(self.0.agent)) };
        while let Some(transport) = Transport::borrowed(&self.0, next) {
            if transport.ident() == ident {
                return Some(transport);
            }
            // SAFETY: `transport` holds `next`.
            next = unsafe { ffi::tport_next(next) };
        }
        None
    }

    /// Waits at most `longest` for something to happen and lets the library handle it.
    pub(crate) fn step(&self, longest: Duration) {
        log::forget();
        let longest = c_long::try_from(longest.as_millis()).unwrap_or(c_long::MAX);
        // SAFETY: the root is alive and this is its thread.
        unsafe { ffi::su_root_step(self.0.root, longest) };
    }

    /// Begins a client transaction; what comes back is heard under `key`. `hop` is where it goes.
    pub(crate) fn request(&self, message: Message, hop: &Hop, key: usize) -> Option<Outgoing> {
        let outgoing = self.outgoing(message, hop, Some(response_heard), key, false)?;
        Some(Outgoing::new(&self.0, outgoing))
    }

    /// Begins a client transaction that nobody listens to: the library ends it by itself.
    pub(crate) fn request_unheard(&self, message: Message, hop: &Hop) -> bool {
        self.outgoing(message, hop, None, 0, false).is_some()
    }

    /// Sends a request outside every transaction.
    pub(crate) fn send_alone(&self, message: Message, hop: &Hop) -> bool {
        self.outgoing(message, hop, None, 0, true).is_some()
    }

    fn outgoing(
        &self,
        message: Message,
        hop: &Hop,
        heard: Option<ffi::ResponseHeard>,
        key: usize,
        alone: bool,
    ) -> Option<ptr::NonNull<ffi::NtaOutgoing>> {
        let route = CString::new(hop.route()).ok()?;
        let ident = self.ident(hop.ident())?;
        let mut tags = Tags::new()
            .pointer(&raw const ffi::tptag_ident, ident.cast_mut())
            .number(&raw const ffi::ntatag_user_via, 1)
            .number(&raw const ffi::ntatag_stateless, usize::from(alone));
        if let Some(transport) = hop.connection() {
            tags = tags.pointer(&raw const ffi::ntatag_tport, transport.as_ptr());
        }
        if hop.is_fresh() {
            tags = tags.number(&raw const ffi::tptag_fresh, 1);
        }
        let (tag, value) = tags.list();
        let raw = message.into_raw();
        // SAFETY: agent and transport are alive; the message is a whole request (checked in `Message::parse`) and is
        // handed over; route and tags outlive the call, and the ident the agent, for nta does not copy it; the magic is a
        // number that is never dereferenced.
        let outgoing = unsafe {
            ffi::nta_outgoing_mcreate(
                self.0.agent,
                heard,
                ptr::without_provenance_mut(key),
                route.as_ptr(),
                raw.as_ptr(),
                tag,
                value,
            )
        };
        let outgoing = ptr::NonNull::new(outgoing);
        if outgoing.is_none() {
            // Not taken over when it fails.
            drop(Message::owned(raw));
        }
        outgoing
    }

    fn ident(&self, ident: &str) -> Option<*const c_char> {
        let idents = self.0.idents.borrow();
        let found = idents.iter().find(|own| own.as_bytes() == ident.as_bytes());
        found.map(|own| own.as_ptr())
    }

    /// Begins a server transaction for a request that came over `transport`; its ACK, CANCEL and timeout are heard under
    /// `key`.
    pub(crate) fn serve(&self, message: Message, transport: &Transport, key: usize) -> Option<Incoming> {
        Incoming::begin(&self.0, message, transport, key)
    }

    /// From now on, or no longer, requests with `branch` (in lower case) are heard as [`Heard::Message`] although a
    /// transaction has them.
    pub(crate) fn divert(&self, branch: &str, on: bool) {
        class::divert(branch, on);
    }

    /// Answers a request that was just heard, with `reply` or with one that the library makes, and keeps nothing.
    pub(crate) fn answer_alone(
        &self,
        request: Message,
        status: u16,
        phrase: &CStr,
        reply: Option<Message>,
    ) -> bool {
        let tags = Tags::new();
        let (tag, value) = tags.list();
        let reply = reply.map_or(ptr::null_mut(), |reply| reply.into_raw().as_ptr());
        // SAFETY: the agent is alive; both messages are whole and handed over, whether it succeeds or not; no tags.
        unsafe {
            ffi::nta_msg_mreply(
                self.0.agent,
                reply,
                ptr::null_mut(),
                c_int::from(status),
                phrase.as_ptr(),
                request.into_raw().as_ptr(),
                tag,
                value,
            ) == 0
        }
    }
}

impl Home {
    fn register_wake(&mut self) -> io::Result<()> {
        let fd = self._wake_fd.as_raw_fd();
        let mut wait = ffi::Wait {
            fd,
            events: 0,
            revents: 0,
        };
        // SAFETY: `wait` is a valid `su_wait_t` for the call, which sofia copies; the descriptor stays open until the
        // registration is gone; the argument is never read.
        self.wake = unsafe {
            match ffi::su_wait_create(&raw mut wait, fd, ffi::WAIT_IN) {
                0 => ffi::su_root_register(self.root, &raw mut wait, woken, ptr::null_mut(), 0),
                failed => failed,
            }
        };
        if self.wake < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // SAFETY: whatever points into these holds an `Rc` of this, so nothing does any more; each is destroyed once, on
        // the thread that made it, in the order that sofia asks for.
        unsafe {
            if !self.agent.is_null() {
                ffi::nta_agent_destroy(self.agent);
            }
            if !self.root.is_null() {
                if self.wake >= 0 {
                    ffi::su_root_deregister(self.root, self.wake);
                }
                ffi::su_root_destroy(self.root);
            }
            ffi::su_deinit();
        }
        calls::deafen();
    }
}

fn nta_tags(behaviour: &Behaviour) -> Tags {
    let TimerConfig { t1, t2, t4 } = behaviour.timers;
    Tags::new()
        // As a proxy: the 2xx of an INVITE, its copies and its ACK are the user's (RFC 3261 section 16.11).
        .number(&raw const ffi::ntatag_ua, 0)
        .number(&raw const ffi::ntatag_stateless, 1)
        .number(&raw const ffi::ntatag_sip_t1, millis(t1))
        // sofia counts whole milliseconds, and the one that has begun for one.
        .number(&raw const ffi::ntatag_sip_t1x64, millis(t1 * 64) + 1)
        .number(&raw const ffi::ntatag_sip_t2, millis(t2))
        .number(&raw const ffi::ntatag_sip_t4, millis(t4))
        .number(&raw const ffi::ntatag_timer_c, TIMER_C_MS)
        .number(&raw const ffi::ntatag_cancel_487, 0)
        .number(&raw const ffi::ntatag_extra_100, 0)
        .number(&raw const ffi::ntatag_pass_100, 1)
        .number(&raw const ffi::ntatag_pass_408, 1)
        .number(&raw const ffi::ntatag_timeout_408, 1)
        .number(&raw const ffi::ntatag_maxsize, class::MOST_OCTETS)
        .number(&raw const ffi::ntatag_udp_mtu, UDP_MTU)
        // What is wrong with a header field is found out above, with a report; what is missing answers nta.
        .number(&raw const ffi::ntatag_bad_req_mask, 0)
        .number(&raw const ffi::ntatag_bad_resp_mask, 0)
        .number(&raw const ffi::ntatag_sipflags, ffi::EXTRACT_COPY as usize)
        .pointer(&raw const ffi::ntatag_mclass, class::ours().cast_mut())
}

fn millis(duration: Duration) -> usize {
    usize::try_from(duration.as_millis()).unwrap_or(usize::MAX)
}
