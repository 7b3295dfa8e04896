// SPDX-License-Identifier: GPL-2.0

//! `potluck lab up`.

use super::{
    loaded_modules, memory, names, need_root,
    pmem::{self, Contents},
    step, LabNode, State,
};
use crate::{
    cli::{LabUp, PmemFormat},
    command::Tool,
    configfs,
    kernel_log::KernelLog,
    map, netns,
    node::{self, Node, CONFIGFS},
    uapi,
};
use anyhow::{anyhow, bail, Context, Result};
use nix::mount::{mount, MsFlags};
use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub fn run(args: &LabUp) -> Result<()> {
    let mut log = KernelLog::from_now();
    let begin = Instant::now();
    let result = bring_up(args);
    match result {
        Ok(nodes) => {
            println!(
                "lab: {} nodes are up after {:.1} s; potluck status shows them",
                nodes,
                begin.elapsed().as_secs_f64()
            );
            Ok(())
        }
        Err(error) => {
            let lines = log.tail();
            if lines.is_empty() {
                return Err(error);
            }
            Err(anyhow!(
                "{error:#}\nthe kernel's last lines:\n  {}",
                lines.join("\n  ")
            ))
        }
    }
}

fn bring_up(args: &LabUp) -> Result<u32> {
    need_root()?;
    check(args)?;
    let deadline = Duration::from_secs(args.deadline);
    let mut state = plan(args)?;
    // From here on `lab down` knows what there may be.
    state.save()?;
    let made = make(args, &mut state, deadline);
    if made.is_err() {
        eprintln!("lab: half-made; potluck lab down clears it away");
    }
    made?;
    state.complete = true;
    state.save()?;
    Ok(args.nodes + args.memory)
}

/// Nothing of an earlier lab may be there.
fn check(args: &LabUp) -> Result<()> {
    if let Some(state) = State::load()? {
        bail!(
            "a lab of {} nodes is {}: run potluck lab down first",
            state.nodes.len(),
            if state.complete { "up" } else { "half-made" }
        );
    }
    let left = super::down::leftovers();
    if !left.is_empty() {
        bail!(
            "left over from an earlier lab: {}; run potluck lab down first",
            left.join(", ")
        );
    }
    if args.epoch == 0 {
        bail!("epochs begin at 1");
    }
    if args.nodes + args.memory > names::MOST {
        bail!("a lab has room for {} nodes", names::MOST);
    }
    if args.replicas.is_some_and(|r| r == 0 || r > args.nodes) {
        bail!(
            "--replicas must be 1 to {} (the number of nodes)",
            args.nodes
        );
    }
    Ok(())
}

fn plan(args: &LabUp) -> Result<State> {
    let mut nodes: Vec<_> = (1..=args.nodes)
        .map(|id| names::node(id, args.network, args.port))
        .collect();
    if !args.no_mount {
        let devices = pmem::devices();
        if devices.len() < nodes.len() {
            bail!(
                "{} nodes need as many pmem devices, and there are {}: \
                 start the guest with --pmem {}xSIZE, or use --no-mount",
                nodes.len(),
                devices.len(),
                nodes.len()
            );
        }
        for (node, device) in nodes.iter_mut().zip(devices) {
            node.pmem = Some(device);
            node.mount = Some(names::mount(node.id));
        }
    }
    for number in 1..=args.memory {
        let id = args.nodes + number;
        nodes.push(names::memory_node(number, id, args.network, args.port));
    }
    Ok(State {
        cluster: args.cluster,
        bridge: names::BRIDGE.to_string(),
        complete: false,
        modules: Vec::new(),
        nodes,
    })
}

fn make(args: &LabUp, state: &mut State, deadline: Duration) -> Result<()> {
    // Before the first change: a foreign device is not to be found out half-way.
    let to_format = if args.no_mount {
        Vec::new()
    } else {
        to_format(args, state)?
    };
    let count = state.nodes.len();
    step(
        &format!("{count} namespaces on bridge {}", state.bridge),
        || network(args, state, deadline),
    )?;
    step("modules", || load_modules(args, state, deadline))?;
    step("rxe devices", || {
        state.nodes.iter().try_for_each(|node| {
            Tool::new([
                "rdma",
                "link",
                "add",
                &node.device,
                "type",
                "rxe",
                "netdev",
                &node.node_end,
            ])
            .within(&node.namespace)
            .run(deadline)
            .map(drop)
        })
    })?;
    step("nodes in configfs, switched on", || {
        state
            .nodes
            .iter()
            .try_for_each(|node| configure(args, state, node, deadline))
    })?;
    step(&format!("map with epoch {}", args.epoch), || {
        publish(args, state)
    })?;
    step("all nodes reach each other", || reach(state, deadline))?;
    if args.memory != 0 {
        step(&format!("{} memory nodes serve", args.memory), || {
            memory::switch_on(args, state, deadline)
        })?;
    }
    if args.no_mount {
        return Ok(());
    }
    if !to_format.is_empty() {
        step(
            &format!("mkfs.hotpot on {} devices", to_format.len()),
            || {
                to_format
                    .iter()
                    .try_for_each(|node| mkfs(state, node, deadline))
            },
        )?;
    }
    step("hotpot mounted at /mnt/n1 and so on", || {
        state
            .nodes
            .iter()
            .try_for_each(|node| mount_hotpot(args, node, deadline))
    })
}

fn network(args: &LabUp, state: &State, deadline: Duration) -> Result<()> {
    let mtu = args.mtu;
    let mut outside = format!(
        "link add {0} type bridge\nlink set {0} mtu {mtu} up\n",
        state.bridge
    );
    for node in &state.nodes {
        let (ns, outer, inner) = (&node.namespace, &node.bridge_end, &node.node_end);
        outside += &format!(
            "netns add {ns}\n\
             link add {outer} mtu {mtu} type veth peer name {inner} mtu {mtu}\n\
             link set {inner} netns {ns}\n\
             link set {outer} master {} up\n",
            state.bridge
        );
    }
    ip_batch(&[], outside, deadline)?;
    for node in &state.nodes {
        let inside = format!(
            "link set lo up\naddr add {}/24 dev {1}\nlink set {1} up\n",
            node.address, node.node_end
        );
        ip_batch(&["-n", &node.namespace], inside, deadline)?;
    }
    Ok(())
}

/// One `ip` for many commands: a process is dear in an emulated guest.
fn ip_batch(options: &[&str], commands: String, deadline: Duration) -> Result<()> {
    let words = ["ip"]
        .iter()
        .chain(options)
        .chain(&["-batch", "-"])
        .copied();
    Tool::new(words)
        .input(commands.clone())
        .run(deadline)
        .map(drop)
        .with_context(|| format!("of these commands:\n{commands}"))
}

fn load_modules(args: &LabUp, state: &mut State, deadline: Duration) -> Result<()> {
    let mut ours = vec!["rdma_lite"];
    if !args.no_mount {
        ours.push("hotpot");
    }
    if args.memory != 0 {
        ours.extend(memory::MODULES);
    }
    let before = loaded_modules();
    let loaded = (|| {
        modprobe("rdma_rxe", deadline)?;
        for name in ours {
            if before.iter().any(|m| m == name) {
                continue;
            }
            match find_module(name)? {
                Some(file) => insmod(&file, deadline)?,
                None => modprobe(name, deadline)?,
            }
        }
        Ok(())
    })();
    // /proc/modules has the last loaded first, which is the order to unload in.
    state.modules = loaded_modules()
        .into_iter()
        .filter(|m| !before.contains(m))
        .collect();
    state.save()?;
    loaded
}

/// Loads a module by its name.
fn modprobe(name: &str, deadline: Duration) -> Result<()> {
    Tool::new(["modprobe", name]).run(deadline).map(drop)
}

/// Loads a module by its path, after what it depends on.
fn insmod(file: &Path, deadline: Duration) -> Result<()> {
    let path = file.display().to_string();
    let depends = Tool::new(["modinfo", "-F", "depends", &path]).run(deadline)?;
    for dependency in depends.trim().split(',').filter(|d| !d.is_empty()) {
        if dependency != "rdma_lite" {
            modprobe(dependency, deadline)?;
        }
    }
    Tool::new(["insmod", &path]).run(deadline).map(drop)
}

/// Searches $POTLUCK_MODULES for NAME.ko.
fn find_module(name: &str) -> Result<Option<PathBuf>> {
    let Some(top) = env::var_os("POTLUCK_MODULES") else {
        return Ok(None);
    };
    let top = PathBuf::from(top);
    let file = format!("{name}.ko");
    let mut dirs = vec![top.clone()];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir)
            .with_context(|| format!("POTLUCK_MODULES: cannot read {}", dir.display()))?;
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(t) if t.is_dir() => dirs.push(entry.path()),
                _ if entry.file_name() == file.as_str() => return Ok(Some(entry.path())),
                _ => {}
            }
        }
    }
    bail!(
        "no {file} below {} (POTLUCK_MODULES): run make modules first",
        top.display()
    )
}

/// Makes the node's directory from within its namespace, to which that binds
/// the node, and switches it on.
fn configure(args: &LabUp, state: &State, node: &LabNode, deadline: Duration) -> Result<()> {
    let dir = Path::new(CONFIGFS).join(&node.name);
    let number = |value: Option<u64>| value.map(|n| n.to_string());
    let attributes = [
        ("id", Some(node.id.to_string())),
        ("addr", Some(node.address.to_string())),
        ("port", Some(node.port.to_string())),
        ("device", Some(node.device.clone())),
        ("cluster", Some(state.cluster.to_string())),
        ("ring_size", number(args.ring_size)),
        ("heartbeat_ms", number(args.heartbeat_ms.map(u64::from))),
        ("timeout_ms", number(args.timeout_ms.map(u64::from))),
    ];
    let more = args.set.iter().map(|(k, v)| (k.as_str(), Some(v.clone())));
    let attributes = attributes.into_iter().chain(more);
    configfs::switch_on(&dir, Some(&node.namespace), attributes, deadline)
        .with_context(|| format!("node {}", node.name))
}

fn local(node: &LabNode) -> Node {
    Node {
        name: node.name.clone(),
        namespace: Some(node.namespace.clone()),
        mount: node.mount.clone(),
        memory: node.memory,
    }
}

fn publish(args: &LabUp, state: &State) -> Result<()> {
    let map = first_map(args.epoch, &state.nodes);
    let theirs = local(&state.nodes[0]).with_device(|file| Ok(node::info(file)?))?;
    if theirs.abi_version != uapi::RDMA_LITE_ABI_VERSION {
        bail!(
            "rdma_lite has ABI version {}, this tool {}: build both from one tree",
            theirs.abi_version,
            uapi::RDMA_LITE_ABI_VERSION
        );
    }
    state
        .nodes
        .iter()
        .try_for_each(|node| local(node).publish(&map))
}

/// All up, with hotpot or with memory; node 1 is the central dispatcher.
fn first_map(epoch: u64, nodes: &[LabNode]) -> map::Map {
    let nodes = nodes
        .iter()
        .map(|node| map::Node {
            id: node.id,
            name: node.name.clone(),
            address: IpAddr::V4(node.address),
            port: node.port,
            state: map::State::Up,
            roles: match node.id {
                _ if node.memory => vec![map::Role::Memory],
                1 => vec![map::Role::Hotpot, map::Role::HotpotCd],
                _ => vec![map::Role::Hotpot],
            },
            incarnation: 0,
        })
        .collect();
    map::Map { epoch, nodes }
}

/// Every node pings every other until it answers.
fn reach(state: &State, deadline: Duration) -> Result<()> {
    let end = Instant::now() + deadline;
    for from in &state.nodes {
        for to in state.nodes.iter().filter(|to| to.id != from.id) {
            while let Err(error) = local(from).ping(to.id, 2000) {
                if Instant::now() >= end {
                    return Err(error.context(format!(
                        "{} does not reach {} within {} s",
                        from.name,
                        to.name,
                        deadline.as_secs()
                    )));
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
    Ok(())
}

fn to_format(args: &LabUp, state: &State) -> Result<Vec<LabNode>> {
    let mut chosen = Vec::new();
    for node in &state.nodes {
        let Some(device) = &node.pmem else { continue };
        let format = match args.pmem_format {
            PmemFormat::Yes => true,
            PmemFormat::No => false,
            PmemFormat::Auto => match pmem::contents(device)? {
                Contents::Blank => true,
                own if own.is_for(state.cluster, node.id) => false,
                Contents::Hotpot { cluster, node: id } => bail!(
                    "{} belongs to node {id} of cluster {cluster}; \
                     use --cluster, or lose what it holds with --pmem-format yes",
                    device.display()
                ),
                Contents::Unknown => bail!(
                    "{} holds something that is not hotpot; \
                     lose it with --pmem-format yes",
                    device.display()
                ),
            },
        };
        if format {
            chosen.push(node.clone());
        }
    }
    Ok(chosen)
}

fn mkfs(state: &State, node: &LabNode, deadline: Duration) -> Result<()> {
    let Some(device) = &node.pmem else {
        return Ok(());
    };
    Tool::new([
        "mkfs.hotpot",
        "--node-id",
        &node.id.to_string(),
        "--cluster",
        &state.cluster.to_string(),
        "--force",
        &device.display().to_string(),
    ])
    .run(deadline)
    .map(drop)
}

/// Mounts in our own mount namespace, so that all nodes see all mounts.
fn mount_hotpot(args: &LabUp, node: &LabNode, deadline: Duration) -> Result<()> {
    let (Some(device), Some(target)) = (node.pmem.clone(), node.mount.clone()) else {
        return Ok(());
    };
    let options = mount_options(args, &node.name);
    fs::create_dir_all(&target).with_context(|| format!("mkdir {}", target.display()))?;
    let shown = format!(
        "mount -t hotpot -o {options} {} {}",
        device.display(),
        target.display()
    );
    netns::within(None, deadline, move || {
        mount(
            Some(&device),
            &target,
            Some("hotpot"),
            MsFlags::empty(),
            Some(options.as_str()),
        )?;
        Ok(())
    })
    .context(shown)?;
    if !node::hotpot_mounts()
        .iter()
        .any(|m| Some(&m.target) == node.mount.as_ref())
    {
        bail!("node {}: mounted, but not in /proc/mounts", node.name);
    }
    Ok(())
}

fn mount_options(args: &LabUp, name: &str) -> String {
    let mut options = format!("node={name}");
    if let Some(replicas) = args.replicas {
        options += &format!(",replicas={replicas}");
    }
    if let Some(more) = &args.mount_options {
        options += &format!(",{more}");
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Lab};
    use clap::Parser;

    fn args(words: &[&str]) -> LabUp {
        let words = ["potluck", "lab", "up"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Lab(Lab::Up(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_map_makes_node_1_the_dispatcher() {
        let args = args(&["3"]);
        let nodes: Vec<_> = (1..=3)
            .map(|i| names::node(i, args.network, args.port))
            .collect();
        let map = first_map(args.epoch, &nodes);
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(map::Map::parse(&text).unwrap(), map);
        let dispatchers: Vec<_> = map
            .nodes
            .iter()
            .filter(|n| n.roles.contains(&map::Role::HotpotCd))
            .map(|n| n.id)
            .collect();
        assert_eq!(dispatchers, [1]);
    }

    #[test]
    fn memory_nodes_come_after_the_others_and_have_no_part_in_hotpot() {
        let args = args(&["2", "--memory", "2", "--no-mount"]);
        let nodes = plan(&args).unwrap().nodes;
        let names: Vec<_> = nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "m1", "m2"]);
        let map = first_map(args.epoch, &nodes);
        let serving: Vec<_> = map
            .nodes
            .iter()
            .filter(|n| n.roles == [map::Role::Memory])
            .map(|n| n.id)
            .collect();
        assert_eq!(serving, [3, 4]);
    }

    #[test]
    fn mount_options_are_joined() {
        assert_eq!(mount_options(&args(&["2"]), "n2"), "node=n2");
        let args = args(&["3", "--replicas", "2", "--mount-options", "timeout_ms=500"]);
        assert_eq!(
            mount_options(&args, "n1"),
            "node=n1,replicas=2,timeout_ms=500"
        );
    }
}
