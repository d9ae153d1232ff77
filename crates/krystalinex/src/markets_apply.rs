//! `krystalinex markets`: the assets, markets and limits in the journal, and the file beside them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use engine::{Action, Command, Origin, State};
use follower::Follower;
use journal::Message;
use processor::{Genesis, Status};
use tokio_util::sync::CancellationToken;
use units::CommandId;
use uuid::Uuid;

use crate::config::{Config, Role, Sources};
use crate::control::Control;
use crate::database::Opened;
use crate::demo::Sender;
use crate::exchange::{Exchange, Settings};
use crate::markets::{self, Markets};
use crate::transport::Transport;

/// How long a command is good, in microseconds of journal time.
const LIFETIME_MICROS: u64 = 60_000_000;

/// How long the broker may take to be reached.
const REACH_MAX: Duration = Duration::from_secs(15);

/// Works on the assets, markets and limits.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Brings the journal to what a file says, by journalled commands. What the file leaves out stays as it is.
    Apply {
        #[command(flatten)]
        sources: Sources,
        /// The file; KX_MARKETS, else the built-in one, where it is not given.
        file: Option<PathBuf>,
        /// Only says what would be applied; exit code 1 when there is something.
        #[arg(long)]
        dry_run: bool,
    },
    /// Checks a file and says what is wrong with it.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
///
/// The file is wrong, the exchange cannot be reached, or the core refuses a definition.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (sources, file, dry_run) = match args.command {
        Subcommand::Check { file } => {
            let markets = markets::load(Some(&file))?;
            println!("{} assets, {} markets: good.", markets.assets.len(), markets.markets.len());
            return Ok(ExitCode::SUCCESS);
        }
        Subcommand::Apply { sources, file, dry_run } => (sources, file, dry_run),
    };
    let config = sources.load(Role::Tool)?;
    crate::process::start_tool_log(&config);
    let markets = markets::load(file.as_deref().or(config.markets.as_deref()))?;
    let opened = Opened::open(&config).await?;
    let result = apply(&config, &opened, &markets, dry_run).await;
    opened.close().await?;
    result
}

async fn apply(
    config: &Config,
    opened: &Opened,
    markets: &Markets,
    dry_run: bool,
) -> anyhow::Result<ExitCode> {
    let recovered = follower::recover(&opened.db, follower::HEAD, |_| ()).await?;
    let state = recovered.state;
    if state.settings().is_none() {
        bail!("the journal is empty: `krystalinex up` opens it with the file");
    }
    let actions = markets.differences(&state);
    if actions.is_empty() {
        println!("The journal says what the file says: nothing to apply.");
        return Ok(ExitCode::SUCCESS);
    }
    if dry_run {
        actions.iter().for_each(|action| println!("would apply: {}", describe(action)));
        return Ok(ExitCode::from(1));
    }
    if let Some(address) = &config.rabbitmq {
        through_broker(address.clone(), opened, actions).await
    } else if opened.is_shared() {
        through_up(config, &state, actions).await
    } else {
        alone(config, opened, actions).await
    }
}

/// Sends the actions to the exchange that runs.
async fn through_up(
    config: &Config,
    state: &State,
    actions: Vec<Action>,
) -> anyhow::Result<ExitCode> {
    let mut control = Control::connect(&config.data_dir).await.with_context(|| {
        format!(
            "no `krystalinex up` answers in {}: --data-dir must name its data directory",
            config.data_dir.display()
        )
    })?;
    let settings = state.settings().context("the journal is empty")?;
    let mut refused = false;
    for action in actions {
        let text = describe(&action);
        let command = Command {
            id: CommandId::new(Uuid::now_v7().as_u128()),
            body_hash: 0,
            expires_at: state.time().plus_micros(LIFETIME_MICROS),
            trace_id: 0,
            origin: Origin::Client,
            action,
        };
        let message =
            Message { incarnation: settings.incarnation, seen: state.sequence(), command };
        let answer = control.send(&message).await.context("the exchange has gone")?;
        println!("{text}: {answer}");
        refused |= answer != "done";
    }
    Ok(if refused { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Nobody runs the exchange: its sequencer is started for this alone.
async fn alone(config: &Config, opened: &Opened, actions: Vec<Action>) -> anyhow::Result<ExitCode> {
    let settings =
        engine::Settings { incarnation: rand::random(), salt: rand::random(), sandbox: false };
    let limits = engine::Limits::default();
    let genesis = Genesis { settings, limits, assets: Vec::new(), markets: Vec::new() };
    let settings = Settings {
        owner: "markets apply".to_owned(),
        // The journal is not empty, so this is never used.
        genesis,
        production: config.mode == server::Mode::Production,
        batch_commands_max: config.batch_commands_max,
        snapshot_commands: config.snapshot_commands,
        projections: true,
        recorder: Arc::default(),
    };
    let stop = CancellationToken::new();
    let transport = Transport::in_process(stop.clone());
    let status = Arc::new(Status::default());
    let mut exchange = Exchange::start(opened.db.clone(), settings, transport, status).await?;
    exchange.ready().await?;
    let publisher = Arc::clone(&exchange.publisher);
    let sender = Sender { live: Arc::clone(&exchange.live), publisher };
    let refused = send(&sender, actions).await;
    exchange.stop().await;
    stop.cancel();
    Ok(if refused? { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Sends the actions to whichever payment processor decides.
async fn through_broker(
    address: queue::Address,
    opened: &Opened,
    actions: Vec<Action>,
) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let transport = Transport::rabbit(address, "kx-tool", &stop).await?;
    let transport = transport.context("nobody has told it to stop")?;
    let subscriber = transport.subscriber();
    let follower = Follower::load(opened.db.clone(), subscriber).await?;
    let sender = Sender { live: follower.live(), publisher: Arc::clone(&transport.publisher) };
    let following = tokio::spawn(follower.run(stop.clone()));
    let ready = async {
        while !sender.live.has_caught_up() || !sender.publisher.ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(REACH_MAX, ready).await.context("RabbitMQ takes no commands")?;
    let refused = send(&sender, actions).await;
    stop.cancel();
    let _ = following.await;
    Ok(if refused? { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Sends the actions and says what has become of each; tells whether any was refused.
async fn send(sender: &Sender, actions: Vec<Action>) -> anyhow::Result<bool> {
    let mut refused = false;
    for action in actions {
        let text = describe(&action);
        let answer = match sender.send(action).await? {
            (_, engine::Event::Rejected(reject)) => {
                refused = true;
                format!("rejected {}", reject.code())
            }
            _ => "done".to_owned(),
        };
        println!("{text}: {answer}");
    }
    Ok(refused)
}

fn describe(action: &Action) -> String {
    match action {
        Action::DefineAsset(asset) => format!("asset {}", asset.symbol),
        Action::DefineMarket(market) => format!("market {}", market.symbol),
        Action::SetLimits(_) => "limits".to_owned(),
        other => format!("{other:?}"),
    }
}
