//! One connection of a stack: TCP, TLS, WS or WSS, either side's.
//!
//! rsipstack sees it as one of its channels: what its transactions send lands in a queue, and is written here. Its own
//! streams wait for a peer that does not read, inside the loop in which everything else is received.

use crate::flows::ReuseKey;
use crate::framing::{Frame, Framing};
use crate::inbound;
use crate::peer::Peer;
use crate::shared::Shared;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use rsipstack::sip as rs;
use rsipstack::transport::SipAddr;
use rsipstack::transport::channel::ChannelConnection;
use rsipstack::transport::connection::{TransportEvent, TransportReceiver};
use siprtc_core::sip::{Flow, StackEvent};
use std::fmt::Display;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

/// Longest time that one write may take, and most messages that may wait behind it: a peer that does not read loses
/// its connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_QUEUED: usize = 4096;

/// How often a write that does not get on is held against the two.
const WRITE_CHECK: Duration = Duration::from_millis(250);

/// Most octets that one write takes together.
const BATCH: usize = 64 * 1024;

/// Most answers without a transaction, and keepalives, that wait to be written. Then nothing more is read.
const MAX_LOOSE: usize = 256;

/// Who connects and says nothing for as long, or later nothing for much longer, is closed. Those who keep a flow
/// alive (RFC 5626 section 4.4.1) do it every two minutes.
const FIRST_WORD: Duration = Duration::from_secs(32);
const IDLE: Duration = Duration::from_secs(15 * 60);

/// Room for one read.
const READ: usize = 4096;

/// Longest time to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

pub(crate) struct Connection {
    pub(crate) flow: Flow,
    pub(crate) channel: ChannelConnection,
    loose: mpsc::Sender<Bytes>,
    /// Pings that are unanswered.
    awaited: AtomicU32,
    closed: CancellationToken,
    why: Mutex<Option<String>>,
}

/// How a connection came to be.
pub(crate) struct Origin {
    /// We have opened it: silence is not held against the peer.
    pub(crate) ours: bool,
    /// What requests may share it.
    pub(crate) reuse: Option<ReuseKey>,
    /// One of `max_connections`.
    pub(crate) seat: OwnedSemaphorePermit,
}

/// The octets below a connection, ready to be used.
pub(crate) enum Link<S> {
    Stream(S),
    WebSocket(Box<WebSocketStream<S>>),
}

impl Connection {
    /// Announces a connection and starts it.
    pub(crate) async fn open<S>(
        shared: &Arc<Shared>,
        link: Link<S>,
        flow: Flow,
        origin: Origin,
    ) -> rsipstack::Result<Arc<Self>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (_, nothing) = mpsc::unbounded_channel();
        let addr = SipAddr::new(rs::Transport::Tcp, flow.remote.into());
        let channel = ChannelConnection::create_connection(nothing, outgoing, addr, None).await?;
        let (loose, loose_queue) = mpsc::channel(MAX_LOOSE);
        let connection = Arc::new(Connection {
            flow,
            channel,
            loose,
            awaited: AtomicU32::new(0),
            closed: shared.stop.child_token(),
            why: Mutex::new(None),
        });
        shared.flows.connected(&connection, origin.reuse);
        shared.emit(StackEvent::FlowUp(flow));
        let queues = Queues {
            messages: queue,
            loose: loose_queue,
        };
        let running = connection.clone().run(shared.clone(), link, queues, origin.ours);
        let seat = origin.seat;
        shared.spawn(async move {
            running.await;
            drop(seat);
        });
        Ok(connection)
    }

    /// Closes it, if it is not closed already.
    pub(crate) fn close(&self, why: impl Into<String>) {
        self.why.lock().get_or_insert(why.into());
        self.closed.cancel();
    }

    pub(crate) fn send_octets(&self, octets: Bytes) -> io::Result<()> {
        let slow = |_| {
            io::Error::new(
                io::ErrorKind::WouldBlock,
                "the connection is closed, or its peer does not read",
            )
        };
        self.loose.try_send(octets).map_err(slow)
    }

    /// A keepalive, whose answer is told.
    pub(crate) fn ping(&self) -> io::Result<()> {
        self.send_octets(Bytes::from_static(b"\r\n\r\n"))?;
        self.awaited.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn run<S>(self: Arc<Self>, shared: Arc<Shared>, link: Link<S>, queues: Queues, patient: bool)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let ended = match link {
            Link::Stream(stream) => self.run_stream(&shared, stream, queues, patient).await,
            Link::WebSocket(socket) => self.run_websocket(&shared, *socket, queues, patient).await,
        };
        let why = self.why.lock().take().unwrap_or(ended);
        shared.connection_down(&self, &why);
    }

    async fn run_stream<S>(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        stream: S,
        mut queues: Queues,
        patient: bool,
    ) -> String
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let ended = tokio::select! {
            why = self.read_stream(shared, &mut reader, patient) => why,
            why = write_stream(&mut writer, &mut queues) => why,
            () = self.closed.cancelled() => "the stack was shut down".to_owned(),
        };
        let goodbye = async {
            while let Ok(octets) = queues.loose.try_recv() {
                writer.write_all(&octets).await?;
            }
            writer.shutdown().await
        };
        let _ = timeout(GOODBYE, goodbye).await;
        ended
    }

    async fn read_stream(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        reader: &mut (impl AsyncRead + Unpin),
        patient: bool,
    ) -> String {
        let mut framing = Framing::new(shared.config.limits.message);
        let mut limit = FIRST_WORD;
        loop {
            framing.feed().reserve(READ);
            match within(limit, patient, reader.read_buf(framing.feed())).await {
                None => return silent(limit),
                Some(Ok(0)) => return "the peer has closed it".to_owned(),
                Some(Ok(_)) => (),
                Some(Err(error)) => return error.to_string(),
            }
            loop {
                match framing.poll(self.awaited.load(Ordering::Relaxed)) {
                    Ok(None) => break,
                    Ok(Some(Frame::Ping)) => {
                        let _ = self.send_octets(Bytes::from_static(b"\r\n"));
                    }
                    Ok(Some(Frame::Pong)) => self.pong(shared),
                    Ok(Some(Frame::Message(octets))) => {
                        limit = IDLE;
                        self.room().await;
                        if !self.hear(shared, &octets, false) {
                            return "what came over it is no SIP".to_owned();
                        }
                    }
                    Err(lost) => {
                        self.hear(shared, &lost.octets, false);
                        return format!("its stream holds {}", lost.why);
                    }
                }
            }
        }
    }

    async fn run_websocket<S>(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        socket: WebSocketStream<S>,
        mut queues: Queues,
        patient: bool,
    ) -> String
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let (mut sink, mut stream) = socket.split();
        let reading = async {
            let mut limit = FIRST_WORD;
            loop {
                let message = match within(limit, patient, stream.next()).await {
                    None => return silent(limit),
                    Some(None | Some(Ok(Message::Close(_)))) => return "the peer has closed it".to_owned(),
                    Some(Some(Err(error))) => return error.to_string(),
                    Some(Some(Ok(message))) => message,
                };
                let octets: Bytes = match message {
                    Message::Text(text) => text.into(),
                    Message::Binary(octets) => octets,
                    _ => continue,
                };
                match &octets[..] {
                    b"\r\n\r\n" => drop(self.send_octets(Bytes::from_static(b"\r\n"))),
                    b"\r\n" => self.pong(shared),
                    line_ends if line_ends.iter().all(|octet| b"\r\n".contains(octet)) => {}
                    _ => {
                        limit = IDLE;
                        self.room().await;
                        self.hear(shared, &octets, true);
                    }
                }
            }
        };
        let ended = tokio::select! {
            why = reading => why,
            why = write_websocket(&mut sink, &mut queues) => why,
            () = self.closed.cancelled() => "the stack was shut down".to_owned(),
        };
        let _ = timeout(GOODBYE, sink.close()).await;
        ended
    }

    /// Waits until one more answer can be queued: a peer that does not read its answers is not read from.
    async fn room(&self) {
        let _ = self.loose.reserve().await;
    }

    /// `false` when what came was nothing that could be answered.
    fn hear(self: &Arc<Self>, shared: &Arc<Shared>, octets: &[u8], whole: bool) -> bool {
        inbound::receive(shared, octets, whole, self.flow, |_| {
            Peer::Connection(self.clone())
        })
    }

    /// Only who was asked answers.
    fn pong(&self, shared: &Shared) {
        let less = |awaited: u32| awaited.checked_sub(1);
        if self
            .awaited
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_err()
        {
            return;
        }
        shared.emit(StackEvent::KeepaliveAnswered {
            flow: self.flow.id,
            mapped: None,
        });
    }
}

/// What waits to be written.
struct Queues {
    messages: TransportReceiver,
    loose: mpsc::Receiver<Bytes>,
}

impl Queues {
    /// Waits for the next. `None` never comes while the connection stands.
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            event = self.messages.recv() => event.map(octets_of),
            loose = self.loose.recv() => loose,
        }
    }
}

fn octets_of(event: TransportEvent) -> Bytes {
    match event {
        TransportEvent::Incoming(rs::SipMessage::Request(request), ..) => request.to_bytes().into(),
        TransportEvent::Incoming(rs::SipMessage::Response(response), ..) => response.to_bytes().into(),
        TransportEvent::New(_) | TransportEvent::Closed(_) => Bytes::new(),
    }
}

async fn write_stream(writer: &mut (impl AsyncWrite + Unpin), queues: &mut Queues) -> String {
    let mut batch = BytesMut::new();
    while let Some(octets) = queues.next().await {
        batch.extend_from_slice(&octets);
        while batch.len() < BATCH
            && let Ok(event) = queues.messages.try_recv()
        {
            batch.extend_from_slice(&octets_of(event));
        }
        let writing = async {
            writer.write_all(&batch).await?;
            writer.flush().await
        };
        if let Err(why) = patiently(writing, || queues.messages.len()).await {
            return why;
        }
        batch.clear();
    }
    "it is not used any more".to_owned()
}

async fn write_websocket<K>(sink: &mut K, queues: &mut Queues) -> String
where
    K: SinkExt<Message> + Unpin,
    K::Error: Display,
{
    while let Some(octets) = queues.next().await {
        // RFC 7118 section 4.2: text where it is UTF-8, for browsers.
        let message = match Utf8Bytes::try_from(octets.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(octets),
        };
        if let Err(why) = patiently(sink.send(message), || queues.messages.len()).await {
            return why;
        }
    }
    "it is not used any more".to_owned()
}

/// Finishes a write, unless the peer does not read.
async fn patiently<E: Display>(
    writing: impl Future<Output = Result<(), E>>,
    queued: impl Fn() -> usize,
) -> Result<(), String> {
    let mut writing = pin!(writing);
    let deadline = Instant::now() + WRITE_TIMEOUT;
    loop {
        match timeout(WRITE_CHECK, writing.as_mut()).await {
            Ok(written) => return written.map_err(|error| error.to_string()),
            Err(_) if Instant::now() >= deadline || queued() > MAX_QUEUED => {
                return Err("the peer does not read it".to_owned());
            }
            Err(_) => (),
        }
    }
}

/// `None` when it took longer than `limit`, which is not held against a connection of our own.
async fn within<T>(limit: Duration, patient: bool, waiting: impl Future<Output = T>) -> Option<T> {
    match patient {
        true => Some(waiting.await),
        false => timeout(limit, waiting).await.ok(),
    }
}

fn silent(limit: Duration) -> String {
    format!("nothing came over it in {limit:?}")
}
