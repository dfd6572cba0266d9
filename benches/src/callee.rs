//! `callee STACK`: a process that takes every call over one SIP stack and the dialog manager, for `stacks` to call.

use crate::process;
use actix::prelude::*;
use serde::{Deserialize, Serialize};
use siprtc::registry;
use siprtc_benches::figure::Figure;
use siprtc_core::sip::{
    EventSink, ListenerConfig, Method, NameAddr, SinkFull, SipUri, StackConfig, StackEvent, Transport,
    TxOwner,
};
use siprtc_core::{Error, Fault, Result};
use siprtc_dialog_manager::{
    Accept, Account, DialogConfig, DialogEvent, DialogEventKind, DialogManager, FromStack,
};
use std::io::BufRead;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

/// More than any run has alive at once: what is measured is the cost, not the policy when full.
pub(crate) const MOST: usize = 1_000_000;

const ANSWER: &str = "v=0\r\no=callee 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                      m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

/// What the process has taken so far.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Look {
    pub(crate) resident_kb: f64,
    pub(crate) processor_ms: f64,
}

impl Look {
    pub(crate) fn now() -> Self {
        Look {
            resident_kb: process::resident_kb(),
            processor_ms: process::processor_ms(),
        }
    }
}

/// Says on standard output where it listens, then answers each line of standard input with a [`Look`].
pub(crate) async fn serve(stack: &str) -> Result<Vec<Figure>> {
    let (_keep, address) = match stack {
        "bare-ezk" => crate::bare::ezk().await?,
        "bare-rsipstack" => crate::bare::rsipstack().await?,
        name => match name.strip_prefix("port-") {
            Some(name) => on_the_port(name).await?,
            None => with_dialogs(name).await?,
        },
    };
    println!("{address}");
    let lines = tokio::task::spawn_blocking(|| {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            let look = serde_json::to_string(&Look::now()).unwrap_or_default();
            println!("{look}");
        }
    });
    drop(lines.await);
    Ok(Vec::new())
}

/// Whatever must live as long as the process serves, and the address.
pub(crate) type Serving = (Box<dyn std::any::Any + Send>, String);

/// The least callee that the port allows: what a plugin costs without the dialog manager.
async fn on_the_port(name: &str) -> Result<Serving> {
    let (sender, mut heard) = tokio::sync::mpsc::channel(65_536);
    let sink = move |event| match event {
        StackEvent::Request { tx, request, .. } => sender.try_send((tx, request)).map_err(|_| SinkFull),
        _ => Ok(()),
    };
    let stack = registry::sip_stack(name)?
        .start(config(Transport::Udp), Arc::new(sink))
        .await?;
    let address = stack.listeners()[0].bound.to_string();
    let (answering, contact) = (stack.clone(), format!("<sip:callee@{address}>"));
    tokio::spawn(async move {
        while let Some((tx, request)) = heard.recv().await {
            let mut response = request.response(200);
            if request.method == Method::Invite {
                let tagged = response.headers.value("To").map(|to| format!("{to};tag=callee"));
                response.headers.set("To", tagged.unwrap_or_default());
                response.headers.push("Contact", &contact);
            }
            if let Err(error) = answering.respond(tx, response).await {
                eprintln!("a call could not be answered: {error}");
            }
        }
    });
    Ok((Box::new(stack), address))
}

/// The dialog manager over the port: what an endpoint has.
async fn with_dialogs(name: &str) -> Result<Serving> {
    let (stack, manager) = (
        registry::sip_stack(name)?,
        Arc::new(OnceLock::<Addr<DialogManager>>::new()),
    );
    let stack = stack
        .start(config(Transport::Udp), Arc::new(ToManager(manager.clone())))
        .await?;
    let bound = stack.listeners()[0].bound;
    let contact = NameAddr::new(SipUri::from_addr(bound).with_user("callee"));
    let aor: SipUri = "sip:callee@example.com".parse()?;
    let dialogs = DialogConfig {
        max_calls: MOST,
        ..DialogConfig::new(Account::new(aor, contact))
    };
    let (port, started) = (stack.clone(), manager.clone());
    let thread = std::thread::Builder::new()
        .name("actors".to_owned())
        .spawn(move || {
            let system = System::new();
            system.block_on(async move {
                Answerer::create(|ctx| {
                    let events = ctx.address().recipient();
                    let manager = DialogManager::new(dialogs, port, TxOwner::user(1), events).start();
                    drop(started.set(manager.clone()));
                    Answerer(manager)
                });
            });
            drop(system.run());
        });
    let thread = thread.map_err(|error| Error::new(Fault::Backend, "start", "no thread").caused_by(error))?;
    while manager.get().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    Ok((Box::new((stack, thread)), bound.to_string()))
}

pub(crate) fn config(transport: Transport) -> StackConfig {
    StackConfig {
        listeners: vec![ListenerConfig {
            transport,
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            advertise: None,
        }],
        max_transactions: MOST,
        ..StackConfig::default()
    }
}

/// The stack's events, into the manager's mailbox.
struct ToManager(Arc<OnceLock<Addr<DialogManager>>>);

impl EventSink for ToManager {
    fn try_emit(&self, event: StackEvent) -> std::result::Result<(), SinkFull> {
        match self.0.get() {
            Some(manager) => manager.try_send(FromStack(event)).map_err(|_| SinkFull),
            None => Err(SinkFull),
        }
    }
}

/// Takes every call at once.
struct Answerer(Addr<DialogManager>);

impl Actor for Answerer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(65_536);
    }
}

impl Handler<DialogEvent> for Answerer {
    type Result = ();

    fn handle(&mut self, event: DialogEvent, _: &mut Self::Context) {
        if let DialogEventKind::Incoming { .. } = event.kind {
            let accept = Accept {
                call: event.call,
                sdp: ANSWER.to_owned(),
            };
            if self.0.try_send(accept).is_err() {
                eprintln!("a call could not be answered: the manager's mailbox is full");
            }
        }
    }
}
