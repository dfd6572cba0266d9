//! What is used of libsofia-sip-ua 1.12.11, by hand: `su_root.h`, `su_log.h`, `msg.h`, `sip_util.h`, `tport.h`, `nta.h`.
//!
//! Every structure is opaque but for those that cross the border by value or whose fields are the interface: `tagi_t`,
//! `tp_name_t`, `su_iovec_t`, `su_wait_t` (which is `struct pollfd` wherever sofia uses poll or epoll), and of the parser
//! the starts of `msg_mclass_t`, `msg_hclass_t`, `msg_pub_t`, `msg_common_t` and `sip_via_t`.
//!
//! `isize_t`, `issize_t` and `usize_t` are `int` or as wide as a pointer, as sofia was configured (Debian's are `int`). A
//! word passed in and the lower half taken out of what comes back fits both; so does the lower half of a structure's
//! field, for the machines are little-endian and their pointers have 64 bits.

use std::ffi::{c_char, c_int, c_long, c_short, c_uint, c_void};

macro_rules! opaque {
    ($($name:ident),* $(,)?) => { $(
        #[repr(C)]
        pub(crate) struct $name {
            _octets: [u8; 0],
            // Neither Send nor Sync, and never moved: it lives in the library.
            _pinned: core::marker::PhantomData<(*mut u8, core::marker::PhantomPinned)>,
        }
    )* };
}

#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!("the structures below are those of 64-bit little-endian systems");

opaque!(
    Home,
    Msg,
    NtaAgent,
    NtaIncoming,
    NtaOutgoing,
    SuLog,
    SuRoot,
    TagType,
    Tport
);

/// The start of `msg_pub_t`, which `sip_t` begins like.
#[repr(C)]
pub(crate) struct Pub {
    pub(crate) common: Header,
    pub(crate) next: *mut Pub,
    /// The application's own.
    pub(crate) user: *mut c_void,
    pub(crate) size: c_uint,
    pub(crate) flags: c_uint,
    _error: *mut Header,
    pub(crate) request: *mut Header,
}

/// `msg_common_t`: what every header field begins with.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) succ: *mut Header,
    pub(crate) prev: *mut *mut Header,
    pub(crate) class: *const HeaderClass,
    /// Its octets, if they are known.
    pub(crate) data: *const u8,
    pub(crate) len: u32,
    _len_upper: u32,
}

/// The start of `sip_via_t`.
#[repr(C)]
pub(crate) struct Via {
    pub(crate) common: Header,
    pub(crate) next: *mut Via,
    pub(crate) protocol: *const c_char,
    /// Host, port, parameters, comment, `ttl`, `maddr` and `received`.
    _between: [usize; 7],
    pub(crate) branch: *const c_char,
}

/// `msg_hclass_t`: how a header field is read.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct HeaderClass {
    pub(crate) hash: c_int,
    pub(crate) parse: ReadHeader,
    pub(crate) rest: [usize; 6],
}

/// `msg_href_t`.
#[repr(C)]
pub(crate) struct HeaderRef {
    pub(crate) class: *const HeaderClass,
    _offset: u16,
    _flags: u16,
}

/// The start of `msg_mclass_t`: how a message is read.
#[repr(C)]
pub(crate) struct MessageClass {
    _class: HeaderClass,
    _name: *const c_char,
    _tag: *mut c_void,
    _flags: c_uint,
    _size: c_uint,
    pub(crate) extract_body: ExtractBody,
    pub(crate) request: HeaderRef,
    pub(crate) status: HeaderRef,
}

/// The start of `sip_content_length_t`.
#[repr(C)]
pub(crate) struct ContentLength {
    _common: Header,
    _next: *mut Header,
    pub(crate) length: u32,
}

/// `tport_vtable_t`, which is in no public header: what a kind of transport does, each a word. `sofia/connections.rs` looks
/// whether it is what it should be.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Vtable(pub(crate) [usize; 21]);

/// Where in a [`Vtable`] stands what makes something of a new socket, and what reads from one.
pub(crate) const INIT_SECONDARY: usize = 8;
pub(crate) const RECV: usize = 13;

pub(crate) type ReadHeader =
    unsafe extern "C" fn(home: *mut Home, header: *mut Header, text: *mut c_char, len: isize) -> isize;
pub(crate) type ExtractBody =
    unsafe extern "C" fn(msg: *mut Msg, sip: *mut Pub, data: *mut c_char, len: isize, end: c_int) -> isize;

/// `tagi_t`: a parameter by name.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tag {
    pub(crate) tag: *const TagType,
    pub(crate) value: isize,
}

/// `tp_name_t`.
#[repr(C)]
pub(crate) struct TransportName {
    pub(crate) proto: *const c_char,
    pub(crate) canon: *const c_char,
    pub(crate) host: *const c_char,
    pub(crate) port: *const c_char,
    pub(crate) comp: *const c_char,
    pub(crate) ident: *const c_char,
}

/// `msg_iovec_t` of POSIX systems.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct IoVec {
    pub(crate) base: *const u8,
    pub(crate) len: usize,
}

/// The start of `su_addrinfo_t`, which is `struct addrinfo`.
#[repr(C)]
pub(crate) struct AddrInfo {
    _flags: c_int,
    _family: c_int,
    pub(crate) socktype: c_int,
}

/// `su_wait_t` of systems with poll.
#[repr(C)]
pub(crate) struct Wait {
    pub(crate) fd: c_int,
    pub(crate) events: c_short,
    pub(crate) revents: c_short,
}

/// `SU_WAIT_IN`, which is POLLIN.
pub(crate) const WAIT_IN: c_int = 1;

/// `MSG_DO_EXTRACT_COPY`: header fields keep the octets in which they came.
pub(crate) const EXTRACT_COPY: u32 = 1 << 2;

/// `SOCK_STREAM` and `SOCK_DGRAM`.
pub(crate) const STREAM: c_int = 1;
pub(crate) const DATAGRAM: c_int = 2;

/// `MSG_FLG_BODY`: the empty line has been read.
pub(crate) const FLAG_BODY: c_uint = 1 << 17;

/// `MSG_FLG_ERROR`.
pub(crate) const FLAG_ERROR: c_uint = 1 << 25;

/// `MSG_FLG_TOOLARGE`.
pub(crate) const FLAG_TOO_LARGE: c_uint = 1 << 26;

pub(crate) type Wakeup = extern "C" fn(*mut c_void, *mut Wait, *mut c_void) -> c_int;
pub(crate) type MessageHeard = extern "C" fn(*mut c_void, *mut NtaAgent, *mut Msg, *mut Pub) -> c_int;
pub(crate) type ResponseHeard = extern "C" fn(*mut c_void, *mut NtaOutgoing, *const Pub) -> c_int;
pub(crate) type IncomingHeard = extern "C" fn(*mut c_void, *mut NtaIncoming, *const Pub) -> c_int;
pub(crate) type TransportFailed = extern "C" fn(*mut NtaAgent, *mut c_void, *mut Tport, *mut Msg, c_int);
/// The last argument is a `va_list`, which every ABI that sofia runs on passes as one pointer-sized word.
pub(crate) type Logger = extern "C" fn(*mut c_void, *const c_char, *mut c_void);

// `build.rs` has found the library. Functions with `...` take tag lists: one pair of tag and value, then more. Here
// they are always given `tag_next` and an array, which ends the list.
unsafe extern "C" {
    pub(crate) fn vsnprintf(out: *mut c_char, size: usize, format: *const c_char, args: *mut c_void)
    -> c_int;

    pub(crate) fn su_init() -> c_int;
    pub(crate) fn su_deinit();
    pub(crate) fn su_log_redirect(log: *mut SuLog, logger: Option<Logger>, stream: *mut c_void);
    pub(crate) fn su_root_create(magic: *mut c_void) -> *mut SuRoot;
    pub(crate) fn su_root_destroy(root: *mut SuRoot);
    pub(crate) fn su_root_register(
        root: *mut SuRoot,
        wait: *mut Wait,
        wakeup: Wakeup,
        arg: *mut c_void,
        priority: c_int,
    ) -> c_int;
    pub(crate) fn su_root_deregister(root: *mut SuRoot, index: c_int) -> c_int;
    pub(crate) fn su_root_step(root: *mut SuRoot, milliseconds: c_long) -> c_long;
    pub(crate) fn su_alloc(home: *mut Home, octets: isize) -> *mut c_void;
    pub(crate) fn su_strndup(home: *mut Home, text: *const c_char, octets: isize) -> *mut c_char;
    pub(crate) fn su_wait_create(wait: *mut Wait, socket: c_int, events: c_int) -> c_int;

    pub(crate) fn sip_default_mclass() -> *const MessageClass;
    pub(crate) fn sip_sanity_check(sip: *const Pub) -> c_int;
    pub(crate) fn sip_extract_body(
        msg: *mut Msg,
        sip: *mut Pub,
        data: *mut c_char,
        len: isize,
        end: c_int,
    ) -> isize;
    pub(crate) static sip_request_class: HeaderClass;
    pub(crate) static sip_status_class: HeaderClass;
    pub(crate) static sip_content_length_class: HeaderClass;
    pub(crate) static sip_via_class: HeaderClass;
    pub(crate) static sip_transport_tcp: c_char;
    pub(crate) static sip_transport_udp: c_char;

    pub(crate) fn msg_make(
        class: *const MessageClass,
        flags: c_int,
        data: *const c_void,
        len: isize,
    ) -> *mut Msg;
    pub(crate) fn msg_destroy(msg: *mut Msg);
    pub(crate) fn msg_object(msg: *const Msg) -> *mut Pub;
    pub(crate) fn msg_get_flags(msg: *const Msg, mask: c_uint) -> c_uint;
    pub(crate) fn msg_get_address(msg: *mut Msg, address: *mut c_void, length: *mut u32) -> c_int;
    pub(crate) fn msg_maxsize(msg: *mut Msg, octets: usize) -> c_uint;
    pub(crate) fn msg_chain_head(msg: *const Msg) -> *mut *mut Header;
    pub(crate) fn msg_prepare(msg: *mut Msg) -> c_int;
    pub(crate) fn msg_iovec(msg: *mut Msg, vec: *mut IoVec, veclen: isize) -> c_int;
    pub(crate) fn msg_header_access(sip: *const Pub, class: *const HeaderClass) -> *mut Header;
    pub(crate) fn msg_header_add_make(
        msg: *mut Msg,
        sip: *mut Pub,
        class: *const HeaderClass,
        text: *const c_char,
    ) -> c_int;
    pub(crate) fn msg_addrinfo(msg: *mut Msg) -> *mut AddrInfo;
    pub(crate) fn msg_mclass_clone(
        class: *const MessageClass,
        size: c_int,
        empty: c_int,
    ) -> *mut MessageClass;
    pub(crate) fn msg_mclass_insert(class: *mut MessageClass, header: *const HeaderRef) -> c_int;
    pub(crate) fn msg_find_hclass(
        class: *const MessageClass,
        name: *const c_char,
        content: *mut isize,
    ) -> *const HeaderRef;

    pub(crate) static tport_tcp_vtable: Vtable;
    pub(crate) static tport_tcp_client_vtable: Vtable;
    pub(crate) fn tport_register_type(vtable: *const Vtable) -> c_int;
    pub(crate) fn tport_tcp_init_secondary(
        tport: *mut Tport,
        socket: c_int,
        accepted: c_int,
        reason: *mut *const c_char,
    ) -> c_int;
    pub(crate) fn tport_recv_stream(tport: *mut Tport) -> c_int;
    pub(crate) fn tport_queuelen(tport: *const Tport) -> c_int;
    pub(crate) fn tport_primaries(tport: *const Tport) -> *mut Tport;
    pub(crate) fn tport_next(tport: *const Tport) -> *mut Tport;
    pub(crate) fn tport_parent(tport: *const Tport) -> *mut Tport;
    pub(crate) fn tport_name(tport: *const Tport) -> *const TransportName;
    pub(crate) fn tport_is_secondary(tport: *const Tport) -> c_int;
    pub(crate) fn tport_is_closed(tport: *const Tport) -> c_int;
    pub(crate) fn tport_is_connected(tport: *const Tport) -> c_int;
    pub(crate) fn tport_delivered_by(tport: *const Tport, msg: *const Msg) -> *mut Tport;
    pub(crate) fn tport_ref(tport: *mut Tport) -> *mut Tport;
    pub(crate) fn tport_unref(tport: *mut Tport);
    pub(crate) fn tport_shutdown(tport: *mut Tport, how: c_int) -> c_int;
    pub(crate) fn tport_pend(
        tport: *mut Tport,
        msg: *mut Msg,
        failed: TransportFailed,
        client: *mut c_void,
    ) -> c_int;
    pub(crate) fn tport_release(
        tport: *mut Tport,
        pending: c_int,
        msg: *mut Msg,
        reply: *mut Msg,
        client: *mut c_void,
        still_pending: c_int,
    ) -> c_int;
    pub(crate) fn tport_tsend(
        tport: *mut Tport,
        msg: *mut Msg,
        name: *const TransportName,
        tag: *const TagType,
        value: isize,
        ...
    ) -> *mut Tport;

    pub(crate) fn nta_agent_create(
        root: *mut SuRoot,
        url: *const c_char,
        heard: MessageHeard,
        magic: *mut c_void,
        tag: *const TagType,
        value: isize,
        ...
    ) -> *mut NtaAgent;
    pub(crate) fn nta_agent_destroy(agent: *mut NtaAgent);
    pub(crate) fn nta_agent_add_tport(
        agent: *mut NtaAgent,
        url: *const c_char,
        tag: *const TagType,
        value: isize,
        ...
    ) -> c_int;
    pub(crate) fn nta_agent_tports(agent: *mut NtaAgent) -> *mut Tport;
    pub(crate) fn nta_msg_mreply(
        agent: *mut NtaAgent,
        reply: *mut Msg,
        sip: *mut Pub,
        status: c_int,
        phrase: *const c_char,
        request: *mut Msg,
        tag: *const TagType,
        value: isize,
        ...
    ) -> c_int;
    pub(crate) fn nta_sip_is_internal(sip: *const Pub) -> c_int;

    pub(crate) fn nta_incoming_create(
        agent: *mut NtaAgent,
        leg: *mut c_void,
        msg: *mut Msg,
        sip: *mut Pub,
        tag: *const TagType,
        value: isize,
        ...
    ) -> *mut NtaIncoming;
    pub(crate) fn nta_incoming_bind(
        incoming: *mut NtaIncoming,
        heard: Option<IncomingHeard>,
        magic: *mut c_void,
    );
    pub(crate) fn nta_incoming_set_params(
        incoming: *mut NtaIncoming,
        tag: *const TagType,
        value: isize,
        ...
    ) -> c_int;
    pub(crate) fn nta_incoming_status(incoming: *const NtaIncoming) -> c_int;
    pub(crate) fn nta_incoming_mreply(incoming: *mut NtaIncoming, msg: *mut Msg) -> c_int;
    pub(crate) fn nta_incoming_destroy(incoming: *mut NtaIncoming);

    pub(crate) fn nta_outgoing_mcreate(
        agent: *mut NtaAgent,
        heard: Option<ResponseHeard>,
        magic: *mut c_void,
        route: *const c_char,
        msg: *mut Msg,
        tag: *const TagType,
        value: isize,
        ...
    ) -> *mut NtaOutgoing;
    pub(crate) fn nta_outgoing_destroy(outgoing: *mut NtaOutgoing);
    pub(crate) fn nta_outgoing_status(outgoing: *const NtaOutgoing) -> c_int;
    pub(crate) fn nta_outgoing_getresponse(outgoing: *mut NtaOutgoing) -> *mut Msg;
    /// With a reference of its own.
    pub(crate) fn nta_outgoing_transport(outgoing: *mut NtaOutgoing) -> *mut Tport;
}

macro_rules! tags {
    ($($name:ident),* $(,)?) => {
        unsafe extern "C" { $( pub(crate) static $name: TagType; )* }
    };
}

tags!(
    ntatag_bad_req_mask,
    ntatag_bad_resp_mask,
    ntatag_cancel_487,
    ntatag_extra_100,
    ntatag_maxsize,
    ntatag_mclass,
    ntatag_pass_100,
    ntatag_pass_408,
    ntatag_sip_t1,
    ntatag_sip_t1x64,
    ntatag_sip_t2,
    ntatag_sip_t4,
    ntatag_sipflags,
    ntatag_stateless,
    ntatag_timeout_408,
    ntatag_timer_c,
    ntatag_tport,
    ntatag_ua,
    ntatag_udp_mtu,
    ntatag_user_via,
    tag_next,
    tptag_fresh,
    tptag_ident,
    tptag_pong2ping,
    tptag_queuesize,
    tptag_sdwn_error,
    tptag_server,
    tptag_timeout,
);
