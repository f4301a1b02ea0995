//! The command line: `siv serve`, `siv dev`, and the commands that administer over the private listener.
//!
//! Nothing here seals, opens or decides; a command reads its arguments, calls one verb and prints.

mod app;
mod approvals;
mod bootstrap;
mod client;
mod credential;
mod custody;
mod demo;
mod destination;
mod dev;
mod dev_file;
mod evidence;
mod failure;
mod flow;
mod hsm;
mod hsm_arguments;
mod hsm_report;
mod import;
mod init;
mod installation;
mod keys;
mod log;
mod node;
mod output;
mod passphrase;
mod process;
mod recover;
mod refused;
mod rewrap;
mod root_key;
mod rotate_root;
mod seal;
mod sealed_start;
mod serve;
mod signals;
mod tenant;
mod unseal;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Environment;

use client::Client;
use failure::Failure;
use output::Output;

pub use process::harden_process;

const EXAMPLES: &str = "\
Examples:
  siv dev                                     the whole thing on this machine, with a demo shop
  siv serve --config siv.toml                 production
  SIV_URL=https://vault.internal:8081 SIV_CREDENTIAL=siv_op_… siv flow apply charge-card.toml

Commands that administer speak to the private listener at SIV_URL with SIV_CREDENTIAL.";

/// The secure input vault.
#[derive(Debug, Parser)]
#[command(name = "siv", version, about = "The secure input vault.", after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    /// Print JSON, one document per command, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Command),
    Init(init::Command),
    Recover(recover::Command),
    Serve(serve::Command),
    Unseal(unseal::Command),
    /// Manage tenants.
    #[command(subcommand, after_help = "Examples:\n  siv tenant create acme --cache-seconds 60\n  siv tenant list")]
    Tenant(tenant::Command),
    /// Manage apps: the web properties that embed fields.
    #[command(subcommand, after_help = "Example:\n  siv app apply shop.toml --tenant acme")]
    App(app::Command),
    /// Manage flows: what may be done with a value.
    #[command(
        subcommand,
        after_help = "Examples:\n  siv flow check charge-card.toml --app shop.toml\n  siv flow apply charge-card.toml --tenant acme"
    )]
    Flow(flow::Command),
    /// Manage destinations: where flows may send to.
    #[command(
        subcommand,
        after_help = "Example:\n  siv destination set acquirer --host acquirer.example --secret apiKey --from-file key.txt"
    )]
    Destination(destination::Command),
    /// Manage credentials.
    #[command(
        subcommand,
        after_help = "Examples:\n  siv credential create --kind app --app shop --name shop-server --tenant acme\n  siv credential list"
    )]
    Credential(credential::Command),
    /// Manage a tenant's keys.
    #[command(subcommand, after_help = "Examples:\n  siv keys rotate --dry-run\n  siv keys rewrap\n  siv keys seal")]
    Keys(rotate_root::KeysCommand),
    Import(import::Command),
    /// Look at a customer's HSM before a tenant's key lives there.
    #[command(
        subcommand,
        after_help = "Example:\n  siv hsm check --module /opt/vendor/lib/pkcs11.so --token acme --pin-file pin"
    )]
    Hsm(hsm::Command),
    /// Read the access log, take it home and check it there.
    #[command(
        subcommand,
        after_help = "Examples:\n  siv log entries --action access.denied\n  siv log export --out bundle\n  siv log verify bundle --vkey vkey"
    )]
    Log(log::Command),
}

/// Reads the arguments, runs the command and prints how it went.
#[must_use]
pub fn run() -> ExitCode {
    // Before there is a thread: this process is the one that loads a vendor's module (docs/decisions/0005).
    if std::env::args_os().nth(1).is_some_and(|first| first == hsm::WORKER) {
        return ::hsm::worker::run();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refusal) => return usage::refused(refusal),
    };
    let environment = Environment::read();
    let output = Output::new(arguments.json, &environment);
    match execute(arguments.command, &environment, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn execute(command: Command, environment: &Environment, output: &Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("the runtime did not start").because(error))?;
    runtime.block_on(async {
        match command {
            Command::Dev(command) => command.run(environment, output).await,
            Command::Serve(command) => command.run(environment, output).await,
            Command::Unseal(command) => command.run(environment, output).await,
            Command::Init(command) => command.run(environment, output).await,
            Command::Recover(command) => command.run(environment, output).await,
            Command::Tenant(command) => command.run(&Client::from_environment(environment)?, output).await,
            Command::App(command) => command.run(&Client::from_environment(environment)?, output).await,
            Command::Flow(command) => command.run(environment, output).await,
            Command::Destination(command) => command.run(&Client::from_environment(environment)?, output).await,
            Command::Credential(command) => command.run(&Client::from_environment(environment)?, output).await,
            Command::Import(command) => command.run(&Client::from_environment(environment)?, output).await,
            Command::Hsm(command) => command.run(environment, output).await,
            Command::Log(command) => command.run(environment, output).await,
            Command::Keys(command) => command.run(environment, output).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example_that_can_be_pasted() {
        fn examine(command: &clap::Command, without: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            // A terminal that is told to be no wider than 100 columns breaks a longer line in the middle of its command.
            let wide = help.lines().any(|line| line.starts_with("  ") && line.chars().count() > 98);
            if !help.contains("Example") || !help.contains("siv ") || wide {
                without.push(command.get_name().to_owned());
            }
            command.get_subcommands().for_each(|command| examine(command, without));
        }
        let mut without = Vec::new();
        examine(&Arguments::command(), &mut without);
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn json_is_taken_at_the_end_of_a_command() {
        let arguments = Arguments::try_parse_from(["siv", "tenant", "create", "acme", "--reveal", "--json"]).unwrap();
        assert!(arguments.json);
    }
}
