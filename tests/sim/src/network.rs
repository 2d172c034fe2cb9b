//! The network between processes and the server: connections that keep order, delay, break and are made again.
//!
//! A connection delivers in order in both directions. A link that is cut keeps what was sent until it heals, as TCP does, or until
//! one of the two ends gives the connection up. A client that has lost its connection keeps what it publishes, connects again, and
//! subscribes again, as the client library does.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::channel::oneshot;

use crate::{
    broker::{AckKind, Answer, ConnectionId, Headers, Message, Op, Output, RequestId, Server, Sid, Status},
    runtime::{Process, Runtime},
    words::Body,
};

/// Time limit of a request (setting `request`).
const REQUEST: Duration = Duration::from_secs(8);

/// Time after which a client gives up a connection without an answer: three pings.
const PINGS: Duration = Duration::from_secs(6);

/// Number of operations that a client keeps while it is not connected.
const KEPT: usize = 2048;

/// Something that arrives at a subscription.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A message.
    Message(Message<Body>),
    /// The answer to a pull without a message, with the tag of the pull.
    Status(Rc<str>, Status),
}

type Handler = Rc<dyn Fn(Arrival)>;
type OnlineHandler = Rc<dyn Fn(bool)>;

/// Something that happened at the server, for whoever checks the rules.
#[derive(Debug)]
pub enum Observed<'a> {
    /// A message was stored.
    Stored {
        /// Subject of the message.
        subject: &'a Rc<str>,
        /// Content.
        body: &'a Body,
        /// Sequence in its stream.
        sequence: u64,
    },
    /// A message was published to subscribers alone.
    Published {
        /// Subject of the message.
        subject: &'a Rc<str>,
        /// Content.
        body: &'a Body,
    },
    /// A consumer has delivered a message to a client.
    Delivered {
        /// The message.
        message: &'a Message<Body>,
        /// Process of the client.
        to: &'a Process,
    },
    /// Acknowledgements or deletions were carried out: messages may be gone.
    Removed,
}

type Observer = Rc<dyn Fn(&Server<Body>, &Observed<'_>)>;

struct Subscription {
    pattern: Rc<str>,
    handler: Handler,
}

struct Watched {
    stream: Rc<str>,
    filter: Rc<str>,
    seen: u64,
    handler: Handler,
}

/// State of the link between one process and the server.
struct Link {
    process: Process,
    /// Connection as the client sees it. `None` while it is not connected.
    connection: Option<ConnectionId>,
    is_cut: bool,
    /// Times before which nothing arrives, so that order is kept.
    arrives: (Instant, Instant),
    stalled_out: VecDeque<(ConnectionId, Op<Body>)>,
    stalled_in: VecDeque<Output<Body>>,
    kept: VecDeque<Op<Body>>,
    subscriptions: BTreeMap<Sid, Subscription>,
    watches: BTreeMap<Sid, Watched>,
    requests: BTreeMap<RequestId, oneshot::Sender<Answer<Body>>>,
    online: Vec<OnlineHandler>,
}

/// Disturbances of the server that last for a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Longest additional delay of an answer: a slow disk.
    pub slow: Duration,
    /// One of so many answers to a publish is lost. 0 for none.
    pub lost_answers: u32,
    /// True while streams have no leader: nothing is stored and no request is answered.
    pub no_leader: bool,
    /// True while the server does not run.
    pub down: bool,
}

struct Inner {
    runtime: Runtime,
    server: RefCell<Server<Body>>,
    links: RefCell<BTreeMap<u64, Link>>,
    /// Process number by connection, for the connections that the server knows.
    connections: RefCell<BTreeMap<ConnectionId, u64>>,
    next: Cell<u64>,
    weather: Cell<Weather>,
    observer: RefCell<Option<Observer>>,
    /// Time at which the server was asked to look at its timers.
    due: Cell<Option<Instant>>,
    delivered: Cell<u64>,
}

/// The network; cheap to clone.
#[derive(Clone)]
pub struct Network(Rc<Inner>);

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("weather", &self.0.weather.get()).finish_non_exhaustive()
    }
}

/// The server did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Away;

impl Network {
    /// A network with a server.
    pub fn new(runtime: &Runtime, server: Server<Body>) -> Self {
        Self(Rc::new(Inner {
            runtime: runtime.clone(),
            server: RefCell::new(server),
            links: RefCell::default(),
            connections: RefCell::default(),
            next: Cell::new(1),
            weather: Cell::default(),
            observer: RefCell::default(),
            due: Cell::new(None),
            delivered: Cell::new(0),
        }))
    }

    /// Calls `observer` for everything that happens at the server.
    pub fn observe(&self, observer: impl Fn(&Server<Body>, &Observed<'_>) + 'static) {
        *self.0.observer.borrow_mut() = Some(Rc::new(observer));
    }

    /// Looks at the server.
    pub fn inspect<T>(&self, look: impl FnOnce(&Server<Body>) -> T) -> T {
        look(&self.0.server.borrow())
    }

    /// Changes the server by hand.
    pub fn change(&self, change: impl FnOnce(&mut Server<Body>)) {
        change(&mut self.0.server.borrow_mut());
    }

    /// Stores a message by hand.
    pub fn store(&self, subject: &str, body: Body) {
        let outputs = self.0.server.borrow_mut().store(subject.into(), body, self.0.runtime.now());
        self.send(outputs);
    }

    /// Number of messages that clients have received.
    pub fn delivered(&self) -> u64 {
        self.0.delivered.get()
    }

    /// Connects a process.
    pub fn connect(&self, process: &Process) -> Connection {
        let now = self.0.runtime.now();
        let link = Link {
            process: process.clone(),
            connection: None,
            is_cut: false,
            arrives: (now, now),
            stalled_out: VecDeque::new(),
            stalled_in: VecDeque::new(),
            kept: VecDeque::new(),
            subscriptions: BTreeMap::new(),
            watches: BTreeMap::new(),
            requests: BTreeMap::new(),
            online: Vec::new(),
        };
        self.0.links.borrow_mut().insert(process.number(), link);
        self.establish(process.number());
        Connection { network: self.clone(), process: process.clone() }
    }

    /// Disturbs the server.
    pub fn set_weather(&self, change: impl FnOnce(&mut Weather)) {
        let mut weather = self.0.weather.get();
        change(&mut weather);
        self.0.runtime.log(|| format!("weather: {weather:?}"));
        self.0.weather.set(weather);
    }

    /// Cuts the link of a process.
    pub fn cut(&self, process: &Process) {
        let Some((connection, false)) =
            self.link(process.number(), |link| (link.connection, std::mem::replace(&mut link.is_cut, true)))
        else {
            return;
        };
        self.0.runtime.log(|| format!("{process:?} is cut off"));
        let Some(connection) = connection else { return };
        let (network, number) = (self.clone(), process.number());
        let patience = PINGS + self.0.runtime.between(Duration::ZERO, Duration::from_secs(2));
        self.0.runtime.after(patience, move || network.give_up(number, connection));
        // The server notices it by its own pings.
        let (network, noticed) = (self.clone(), self.between(4_000, 30_000));
        self.0.runtime.after(noticed, move || {
            if network.is_stuck(number, connection) {
                network.close(connection);
            }
        });
    }

    /// Heals the link of a process.
    pub fn heal(&self, process: &Process) {
        let number = process.number();
        let stalled = self.link(number, |link| {
            link.is_cut = false;
            (std::mem::take(&mut link.stalled_out), std::mem::take(&mut link.stalled_in))
        });
        let Some((out, inward)) = stalled else { return };
        self.0.runtime.log(|| format!("{process:?} is no longer cut off"));
        for (connection, op) in out {
            self.transmit(number, connection, op);
        }
        for output in inward {
            self.deliver_later(number, output, false);
        }
    }

    /// Handles the freeze of a process: the server closes its connection if it lasts.
    pub fn frozen(&self, process: &Process) {
        let number = process.number();
        let Some(Some(connection)) = self.link(number, |link| link.connection) else { return };
        let (network, noticed, process) = (self.clone(), self.between(8_000, 40_000), process.clone());
        self.0.runtime.after(noticed, move || {
            let is_same = network.link(number, |link| link.connection == Some(connection)).unwrap_or(false);
            if process.is_frozen() && is_same {
                network.close(connection);
            }
        });
    }

    /// Handles the thaw of a process: it notices that the server has closed its connection.
    pub fn thawed(&self, process: &Process) {
        let number = process.number();
        let Some(Some(connection)) = self.link(number, |link| link.connection) else { return };
        if !self.0.connections.borrow().contains_key(&connection) {
            let network = self.clone();
            self.0.runtime.after(self.between(0, 20), move || network.lost(number, connection));
        }
    }

    /// Restarts the server: it is away for a while, and every connection is lost.
    pub fn restart_server(&self, away: Duration) {
        self.0.runtime.log(|| format!("the server restarts; it is away for {away:?}"));
        self.set_weather(|weather| weather.down = true);
        self.0.server.borrow_mut().restart(self.0.runtime.now());
        let lost: Vec<(ConnectionId, u64)> =
            std::mem::take(&mut *self.0.connections.borrow_mut()).into_iter().collect();
        for (connection, number) in lost {
            let network = self.clone();
            self.0.runtime.after(self.between(0, 5), move || network.lost(number, connection));
        }
        let network = self.clone();
        self.0.runtime.after(away, move || {
            network.set_weather(|weather| weather.down = false);
            network.look_at_timers();
        });
    }

    /// A process has ended: the kernel closes its socket, after what it has written.
    pub fn ended(&self, process: &Process) {
        let link = self.0.links.borrow_mut().remove(&process.number());
        let Some(Link { connection: Some(connection), is_cut, arrives: (out, _), .. }) = link else { return };
        let network = self.clone();
        let noticed = if is_cut { self.between(4_000, 30_000) } else { self.between(0, 2) };
        self.0.runtime.at(out + noticed, move || network.close(connection));
    }

    fn between(&self, least: u64, most: u64) -> Duration {
        self.0.runtime.between(Duration::from_millis(least), Duration::from_millis(most))
    }

    fn link<T>(&self, number: u64, change: impl FnOnce(&mut Link) -> T) -> Option<T> {
        self.0.links.borrow_mut().get_mut(&number).map(change)
    }

    fn is_stuck(&self, number: u64, connection: ConnectionId) -> bool {
        self.link(number, |link| link.is_cut || link.connection != Some(connection)).unwrap_or(true)
    }

    /// The server closes a connection, and says so.
    fn close(&self, connection: ConnectionId) {
        let Some(number) = self.0.connections.borrow_mut().remove(&connection) else { return };
        self.0.server.borrow_mut().disconnect(connection);
        let name: Option<Rc<str>> = self.link(number, |link| link.process.name().into());
        if let Some(name) = name {
            self.0.runtime.log(|| format!("the server closes the connection of {name}"));
            self.announce_end(name);
        }
        let is_cut = self.link(number, |link| link.is_cut).unwrap_or(true);
        if !is_cut {
            let network = self.clone();
            self.0.runtime.after(self.between(0, 5), move || network.lost_if_awake(number, connection));
        }
    }

    /// Tells subscribers that the connection of a client has ended.
    pub fn announce_end(&self, name: Rc<str>) {
        let op = Op::Publish {
            subject: "sys.disconnected".into(),
            body: Some(Body::Disconnected(name)),
            size: 0,
            headers: Headers::default(),
            request: None,
        };
        let mut server = self.0.server.borrow_mut();
        server.connect(0);
        let outputs = server.handle(0, op, self.0.runtime.now());
        drop(server);
        self.send(outputs);
    }

    fn lost_if_awake(&self, number: u64, connection: ConnectionId) {
        let is_frozen = self.link(number, |link| link.process.is_frozen()).unwrap_or(true);
        if !is_frozen {
            self.lost(number, connection);
        }
    }

    fn give_up(&self, number: u64, connection: ConnectionId) {
        let is_due = self.link(number, |link| link.is_cut && link.connection == Some(connection));
        if is_due.unwrap_or(false) {
            self.lost_if_awake(number, connection);
        }
    }

    /// The client notices that its connection is gone, and connects again.
    fn lost(&self, number: u64, connection: ConnectionId) {
        let handlers = self.link(number, |link| {
            if link.connection != Some(connection) {
                return Vec::new();
            }
            link.connection = None;
            link.stalled_out.clear();
            link.stalled_in.clear();
            link.process.log(|| "has lost its connection".to_owned());
            link.online.clone()
        });
        let Some(handlers) = handlers else { return };
        handlers.iter().for_each(|handler| handler(false));
        let network = self.clone();
        // The server still believes in the old connection for a moment.
        self.0.runtime.after(self.between(0, 300), move || network.close(connection));
        self.connect_again(number);
    }

    fn connect_again(&self, number: u64) {
        let network = self.clone();
        self.0.runtime.after(self.between(5, 300), move || {
            let is_waiting =
                network.link(number, |link| (link.connection.is_none(), link.is_cut || link.process.is_frozen()));
            match is_waiting {
                Some((true, false)) if !network.0.weather.get().down => network.establish(number),
                Some((true, _)) => network.connect_again(number),
                Some((false, _)) | None => {}
            }
        });
    }

    fn establish(&self, number: u64) {
        let connection = self.0.next.get();
        self.0.next.set(connection + 1);
        if self.0.weather.get().down {
            return self.connect_again(number);
        }
        self.0.server.borrow_mut().connect(connection);
        self.0.connections.borrow_mut().insert(connection, number);
        let Some((ops, handlers)) = self.link(number, |link| {
            link.connection = Some(connection);
            link.process.log(|| format!("is connected as {connection}"));
            let subscriptions = link.subscriptions.iter();
            let subscribed =
                subscriptions.map(|(sid, found)| Op::Subscribe { sid: *sid, pattern: found.pattern.clone() });
            let watched = link.watches.iter().map(|(sid, found)| Op::Watch {
                stream: found.stream.clone(),
                filter: found.filter.clone(),
                sid: *sid,
                from: found.seen + 1,
            });
            let ops: Vec<Op<Body>> = subscribed.chain(watched).chain(link.kept.drain(..)).collect();
            (ops, link.online.clone())
        }) else {
            return;
        };
        for op in ops {
            self.transmit(number, connection, op);
        }
        handlers.iter().for_each(|handler| handler(true));
    }

    /// A client sends an operation.
    fn submit(&self, number: u64, op: Op<Body>) {
        let state = self.link(number, |link| (link.connection, link.is_cut));
        match state {
            Some((Some(connection), false)) => self.transmit(number, connection, op),
            Some((Some(connection), true)) => {
                self.link(number, |link| link.stalled_out.push_back((connection, op)));
            }
            Some((None, _)) => {
                self.link(number, |link| {
                    if link.kept.len() < KEPT {
                        link.kept.push_back(op);
                    }
                });
            }
            None => {}
        }
    }

    fn transmit(&self, number: u64, connection: ConnectionId, op: Op<Body>) {
        let delay = self.delay();
        let at = self.0.runtime.now() + delay;
        let Some(at) = self.link(number, |link| {
            link.arrives.0 = at.max(link.arrives.0 + Duration::from_nanos(1));
            link.arrives.0
        }) else {
            return;
        };
        let network = self.clone();
        self.0.runtime.at(at, move || network.arrive(number, connection, op));
    }

    fn delay(&self) -> Duration {
        let micros = self.0.runtime.draw(|rng| match rng.u32(0..100) {
            0 => rng.u64(1_000..20_000),
            1..10 => rng.u64(200..2_000),
            _ => rng.u64(50..300),
        });
        Duration::from_micros(micros)
    }

    fn arrive(&self, number: u64, connection: ConnectionId, op: Op<Body>) {
        let is_cut = self.link(number, |link| link.is_cut && link.connection == Some(connection)).unwrap_or(false);
        if is_cut {
            self.link(number, |link| link.stalled_out.push_back((connection, op)));
            return;
        }
        let weather = self.0.weather.get();
        // A watch that a server without a leader refuses is made again by its client; here it is as if it waited.
        let needs_leader = !matches!(
            op,
            Op::Subscribe { .. }
                | Op::Unsubscribe { .. }
                | Op::Watch { .. }
                | Op::Ping { .. }
                | Op::Publish { request: None, .. }
        );
        if weather.down || weather.no_leader && needs_leader || !self.0.connections.borrow().contains_key(&connection) {
            return;
        }
        let published = match &op {
            Op::Publish { subject, body: Some(body), request, .. } => Some((subject.clone(), body.clone(), *request)),
            _ => None,
        };
        let removes = matches!(op, Op::Acknowledge { kind: AckKind::Ack | AckKind::Term, .. } | Op::Delete { .. });
        let outputs = self.0.server.borrow_mut().handle(connection, op, self.0.runtime.now());
        if let Some((subject, body, request)) = published {
            let stored = outputs.iter().find_map(|output| match output {
                Output::Answer(_, answered, Answer::Stored { sequence, is_duplicate: false })
                    if Some(*answered) == request =>
                {
                    Some(*sequence)
                }
                _ => None,
            });
            match stored {
                Some(sequence) => self.tell(&Observed::Stored { subject: &subject, body: &body, sequence }),
                None => self.tell(&Observed::Published { subject: &subject, body: &body }),
            }
        }
        if removes {
            self.tell(&Observed::Removed);
        }
        self.send(outputs);
        self.look_at_timers();
    }

    fn tell(&self, observed: &Observed<'_>) {
        let observer = self.0.observer.borrow().clone();
        if let Some(observer) = observer {
            observer(&self.0.server.borrow(), observed);
        }
    }

    /// Lets the server look at its timers when something is due.
    fn look_at_timers(&self) {
        let Some(due) = self.0.server.borrow().due() else { return };
        if self.0.due.get().is_some_and(|at| at <= due && at > self.0.runtime.now()) {
            return;
        }
        self.0.due.set(Some(due));
        let network = self.clone();
        self.0.runtime.at(due, move || {
            if network.0.due.get() != Some(due) {
                return;
            }
            network.0.due.set(None);
            let weather = network.0.weather.get();
            if weather.down || weather.no_leader {
                let runtime = network.0.runtime.clone();
                return runtime.after(Duration::from_millis(100), move || network.look_at_timers());
            }
            let outputs = network.0.server.borrow_mut().advance(network.0.runtime.now());
            network.send(outputs);
            network.look_at_timers();
        });
    }

    /// The server sends.
    fn send(&self, outputs: Vec<Output<Body>>) {
        let weather = self.0.weather.get();
        for output in outputs {
            let connection = match &output {
                Output::Message(connection, ..) | Output::Status(connection, ..) | Output::Answer(connection, ..) => {
                    *connection
                }
            };
            let Some(number) = self.0.connections.borrow().get(&connection).copied() else { continue };
            if let Output::Message(_, _, message) = &output
                && message.delivered.is_some()
                && let Some(process) = self.link(number, |link| link.process.clone())
            {
                self.tell(&Observed::Delivered { message, to: &process });
            }
            let is_answer = matches!(output, Output::Answer(_, _, Answer::Stored { .. }));
            if is_answer && weather.lost_answers > 0 && self.0.runtime.one_in(weather.lost_answers) {
                self.0.runtime.log(|| format!("an answer to {connection} is lost"));
                continue;
            }
            self.deliver_later(number, output, is_answer);
        }
    }

    fn deliver_later(&self, number: u64, output: Output<Body>, is_answer: bool) {
        let weather = self.0.weather.get();
        let mut delay = self.delay();
        if is_answer && !weather.slow.is_zero() {
            delay += self.0.runtime.between(Duration::ZERO, weather.slow);
        }
        let at = self.0.runtime.now() + delay;
        let Some(at) = self.link(number, |link| {
            link.arrives.1 = at.max(link.arrives.1 + Duration::from_nanos(1));
            link.arrives.1
        }) else {
            return;
        };
        let network = self.clone();
        self.0.runtime.at(at, move || network.deliver(number, output));
    }

    fn deliver(&self, number: u64, output: Output<Body>) {
        enum Act {
            Handle(Handler, Arrival),
            Answer(oneshot::Sender<Answer<Body>>, Answer<Body>),
        }
        let act = self.link(number, |link| {
            let connection = match &output {
                Output::Message(connection, ..) | Output::Status(connection, ..) | Output::Answer(connection, ..) => {
                    *connection
                }
            };
            if link.connection != Some(connection) {
                return None;
            }
            if link.is_cut {
                link.stalled_in.push_back(output);
                return None;
            }
            match output {
                Output::Message(_, sid, message) => {
                    if let Some(watch) = link.watches.get_mut(&sid) {
                        watch.seen = watch.seen.max(message.sequence.unwrap_or(0));
                        return Some(Act::Handle(watch.handler.clone(), Arrival::Message(message)));
                    }
                    let found = link.subscriptions.get(&sid)?;
                    Some(Act::Handle(found.handler.clone(), Arrival::Message(message)))
                }
                Output::Status(_, sid, tag, status) => {
                    if let Some(watch) = link.watches.get(&sid) {
                        return Some(Act::Handle(watch.handler.clone(), Arrival::Status(tag, status)));
                    }
                    let found = link.subscriptions.get(&sid)?;
                    Some(Act::Handle(found.handler.clone(), Arrival::Status(tag, status)))
                }
                Output::Answer(_, request, answer) => {
                    link.requests.remove(&request).map(|waiting| Act::Answer(waiting, answer))
                }
            }
        });
        self.0.delivered.set(self.0.delivered.get() + 1);
        match act.flatten() {
            Some(Act::Handle(handler, arrival)) => handler(arrival),
            Some(Act::Answer(waiting, answer)) => drop(waiting.send(answer)),
            None => {}
        }
    }

    fn number(&self) -> u64 {
        let next = self.0.next.get();
        self.0.next.set(next + 1);
        next
    }
}

/// Connection of a process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    network: Network,
    process: Process,
}

impl Connection {
    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// True while the client believes to be connected.
    pub fn is_online(&self) -> bool {
        self.network.link(self.process.number(), |link| link.connection.is_some()).unwrap_or(false)
    }

    /// Calls `handler` when the connection is lost and when it is back.
    pub fn on_change(&self, handler: impl Fn(bool) + 'static) {
        self.network.link(self.process.number(), |link| link.online.push(Rc::new(handler)));
    }

    /// Sends an operation without an answer.
    pub fn send(&self, op: Op<Body>) {
        self.network.submit(self.process.number(), op);
    }

    /// Publishes a message to subscribers.
    pub fn publish(&self, subject: impl Into<Rc<str>>, body: Body) {
        let headers = Headers::default();
        self.send(Op::Publish { subject: subject.into(), body: Some(body), size: 0, headers, request: None });
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The server does not answer in time. The request may have been carried out.
    pub async fn request(&self, op: impl FnOnce(RequestId) -> Op<Body>) -> Result<Answer<Body>, Away> {
        self.request_within(REQUEST, op).await
    }

    /// Sends a request and waits for its answer for this time.
    ///
    /// # Errors
    /// The server does not answer in time. The request may have been carried out.
    pub async fn request_within(
        &self,
        limit: Duration,
        op: impl FnOnce(RequestId) -> Op<Body>,
    ) -> Result<Answer<Body>, Away> {
        let request = self.network.number();
        let (sender, receiver) = oneshot::channel();
        self.network.link(self.process.number(), |link| link.requests.insert(request, sender));
        self.send(op(request));
        let answer = self.process.within(limit, receiver).await;
        self.network.link(self.process.number(), |link| link.requests.remove(&request));
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(_)) | None => Err(Away),
        }
    }

    /// Waits until the server has processed everything that was sent before.
    ///
    /// # Errors
    /// The server does not answer in time.
    pub async fn round_trip(&self, limit: Duration) -> Result<(), Away> {
        self.request_within(limit, |request| Op::Ping { request }).await.map(drop)
    }

    /// Subscribes to a pattern. Returns the number with which the subscription can be ended.
    pub fn subscribe(&self, pattern: impl Into<Rc<str>>, handler: impl Fn(Arrival) + 'static) -> Sid {
        let (sid, pattern) = (self.network.number(), pattern.into());
        let subscription = Subscription { pattern: pattern.clone(), handler: Rc::new(handler) };
        let is_connected = self.network.link(self.process.number(), |link| {
            link.subscriptions.insert(sid, subscription);
            link.connection.is_some()
        });
        if is_connected == Some(true) {
            self.send(Op::Subscribe { sid, pattern });
        }
        sid
    }

    /// Ends a subscription at the server. What it has sent before still arrives.
    pub fn unsubscribe(&self, sid: Sid) {
        self.send(Op::Unsubscribe { sid });
    }

    /// Forgets a subscription.
    pub fn forget(&self, sid: Sid) {
        self.network.link(self.process.number(), |link| link.subscriptions.remove(&sid));
    }

    /// Watches the subjects of a stream: the last message of each, and those that follow.
    pub fn watch(&self, stream: &str, filter: impl Into<Rc<str>>, handler: impl Fn(Arrival) + 'static) {
        let (sid, stream, filter) = (self.network.number(), Rc::from(stream), filter.into());
        let watch =
            Watched { stream: Rc::clone(&stream), filter: Rc::clone(&filter), seen: 0, handler: Rc::new(handler) };
        let is_connected = self.network.link(self.process.number(), |link| {
            link.watches.insert(sid, watch);
            link.connection.is_some()
        });
        if is_connected == Some(true) {
            self.send(Op::Watch { stream, filter, sid, from: 1 });
        }
    }
}
