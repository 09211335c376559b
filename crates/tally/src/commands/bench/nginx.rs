//! nginx beside us, where it is installed: a redirect and a line in its access log, which is what many count clicks by.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::child::ServerProcess;

/// None where it is not installed.
pub(super) async fn start() -> Result<Option<ServerProcess>> {
    let installed = Command::new("nginx").arg("-v").stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let mut command = Command::new("nginx");
    let mut server = ServerProcess::spawn_command("nginx", &mut command, |command, address, folder| {
        let file = folder.join("nginx.conf");
        // What goes wrong here shows when it does not start.
        let _ = std::fs::write(&file, configuration(&address.to_string()));
        command.arg("-p").arg(folder).arg("-c").arg(file).stderr(Stdio::null());
    })?;
    server.is_parent = true;
    server.wait_until("/").await.map(Some)
}

/// A worker a core, and the log written line by line.
fn configuration(listen: &str) -> String {
    format!(
        "daemon off; worker_processes auto; pid nginx.pid; error_log stderr crit;
         events {{ worker_connections 4096; }}
         http {{
             access_log access.log; keepalive_requests 1000000000; client_body_temp_path body;
             proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
             server {{ listen {listen}; location / {{ return 302 https://shop.example/; }} }}
         }}"
    )
}
