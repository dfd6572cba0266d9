// A telephone of JsSIP and the browser's own PeerConnection. Nothing here mends what either of them does: what the test
// says over the browser's debugging pipe is done, and what happened is kept for it.
"use strict";

const phone = { events: [], answers: {}, tracks: {} };

const seen = (event, more) => phone.events.push({ event, ...more });

// Waits until an event of that name has come, and of that side if one is named.
phone.until = async (name, seconds, originator) => {
  const fits = (it) => it.event === name && (!originator || it.originator === originator);
  for (let left = seconds * 50; left > 0; left -= 1) {
    const found = phone.events.find(fits);
    if (found) return found;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`no ${name} after ${seconds} s, but ${JSON.stringify(phone.events)}`);
};

phone.register = async (uri, password, server) => {
  const sockets = [new JsSIP.WebSocketInterface(server)];
  phone.ua = new JsSIP.UA({ sockets, uri, password, register: true, session_timers: false });
  for (const name of ["connected", "disconnected", "registered", "registrationFailed"]) {
    phone.ua.on(name, (it) => seen(name, { cause: it.cause }));
  }
  phone.ua.on("newRTCSession", ({ originator, session }) => {
    phone.session = session;
    watch(session);
    if (originator === "remote") phone.media(phone.answers).then((media) => session.answer(media));
  });
  phone.ua.start();
  await phone.until("registered", 15);
};

// How calls that come are answered: `play` is a WAV file in base64, `camera` whether the picture of the fake camera is sent.
phone.answering = (how) => { phone.answers = how; };

phone.call = async (target, how) => {
  phone.ua.call(target, await phone.media(how));
};

// What JsSIP is given for a call.
phone.media = async ({ play, camera }) => {
  const stream = new MediaStream();
  if (play) {
    phone.room = new AudioContext({ sampleRate: 48000 });
    const wav = Uint8Array.from(atob(play), (letter) => letter.charCodeAt(0)).buffer;
    phone.tape = await phone.room.decodeAudioData(wav);
    phone.microphone = phone.room.createMediaStreamDestination();
    phone.microphone.channelCount = 1;
    stream.addTrack(phone.microphone.stream.getAudioTracks()[0]);
  }
  if (camera) {
    const picture = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 } });
    stream.addTrack(picture.getVideoTracks()[0]);
  }
  return {
    mediaStream: stream,
    pcConfig: { iceServers: [] },
    rtcOfferConstraints: { offerToReceiveAudio: true, offerToReceiveVideo: camera === true },
  };
};

// Plays the tape from its beginning.
phone.play = () => {
  const source = phone.room.createBufferSource();
  source.buffer = phone.tape;
  source.connect(phone.microphone);
  source.onended = () => seen("played");
  source.start();
};

function watch(session) {
  for (const name of ["progress", "accepted", "confirmed", "failed", "ended", "hold", "unhold", "newInfo", "reinvite", "update"]) {
    session.on(name, (it) => seen(name, { originator: it.originator, cause: it.cause, status: it.message?.status_code }));
  }
  session.on("sdp", ({ originator, type, sdp }) => seen("sdp", { originator, type, sdp }));
  session.on("newDTMF", ({ originator, dtmf }) => seen("digit", { originator, tone: dtmf.tone }));
  const listen = (connection) => {
    connection.addEventListener("track", ({ track }) => hear(track));
    connection.addEventListener("connectionstatechange", () => {
      const state = connection.connectionState;
      seen(`path ${state}`);
      if (state === "connected" && phone.tape) phone.play();
    });
  };
  if (session.connection) listen(session.connection);
  else session.on("peerconnection", ({ peerconnection }) => listen(peerconnection));
}

// A track that is heard or seen; the recorder gets nothing of one that no element plays.
function hear(track) {
  if (phone.tracks[track.kind]) return;
  phone.tracks[track.kind] = track;
  const element = document.getElementById(track.kind === "audio" ? "loudspeaker" : "screen");
  element.srcObject = new MediaStream([track]);
  if (track.kind !== "audio") return;
  phone.recorder = new MediaRecorder(element.srcObject, { mimeType: "audio/webm;codecs=opus", audioBitsPerSecond: 128000 });
  phone.recorded = [];
  phone.recorder.ondataavailable = ({ data }) => phone.recorded.push(data);
  phone.recorder.start(200);
}

// What was heard until now: WebM in base64.
phone.heard = async () => {
  if (phone.recorder.state !== "inactive") {
    const over = new Promise((done) => { phone.recorder.onstop = done; });
    phone.recorder.stop();
    await over;
  }
  const bytes = new Uint8Array(await new Blob(phone.recorded).arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
};

// The PeerConnection's own numbers of that type, of audio or of video.
phone.numbers = async (type, kind) => {
  const all = [...(await phone.session.connection.getStats()).values()];
  return all.find((it) => it.type === type && it.kind === kind);
};

// The bit/s that it takes the path to carry from here.
phone.bandwidth = async () => {
  const all = [...(await phone.session.connection.getStats()).values()];
  return all.find((it) => it.type === "candidate-pair" && it.nominated)?.availableOutgoingBitrate;
};
