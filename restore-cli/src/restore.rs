//! `stonekeep restore`.

use std::process::ExitCode;

use stonekeep_engine::{
    history::{Selector, find},
    restore::{RestorePlan, preview, restore},
};
use stonekeep_postgres::{load::Selection, tools::ToolDirs};
use stonekeep_process::output;

use crate::{
    cli::RestoreArgs, confirm::Terminal, failure::Failure, identity, open::Session, report, target,
};

pub(crate) fn run(session: &Session<'_>, args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let selector: Selector = args.snapshot.parse()?;
    let target = target::parse(&args.target, "--target", session.environment)?;
    let config = session.load()?;
    let identities = identity::load(args.identities.or(&config), session.environment)?;
    let plan = RestorePlan {
        target,
        tools: ToolDirs { pattern: config.pg_bindir.clone() },
        jobs: args.jobs,
        no_owner: args.no_owner,
        create_roles: args.create_roles,
        no_security_labels: args.no_security_labels,
        role: args.role.clone(),
        selection: Selection {
            tables: args.table.clone(),
            schemas: args.schema.clone(),
            exclude_tables: args.exclude_table.clone(),
            exclude_schemas: args.exclude_schema.clone(),
            schema_only: args.schema_only,
            data_only: args.data_only,
        },
        analyze: true,
        work_dir: session.environment.temp_dir(),
        drill: None,
    };
    if args.plan {
        let preview = session.block_on(async |context, _| {
            let repository = session.open(&config, &context).await?;
            let snapshot = find(&repository, &selector, &context).await?;
            let preview = preview(&repository, &snapshot, identities, &plan, &context).await;
            preview.map_err(|source| Failure::Restore(Box::new(source)))
        })?;
        output::result(session.json, &preview, || report::preview(&preview))
            .map_err(Failure::Output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = session.block_on(async |context, progress| {
        let repository = session.open(&config, &context).await?;
        let snapshot = find(&repository, &selector, &context).await?;
        let person = Terminal { progress, cancel: context.cancel.clone() };
        let report = restore(&repository, &snapshot, identities, &plan, &person, &context).await;
        report.map_err(|source| Failure::Restore(Box::new(source)))
    })?;
    output::result(session.json, &report, || report::restore(&report)).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
