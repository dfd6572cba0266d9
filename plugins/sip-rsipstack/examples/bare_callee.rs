//! The least callee on rsipstack itself: answers an INVITE and a BYE with 200, for some seconds, and says what that
//! cost. `cargo run --release --example bare_callee -- 127.0.0.1:5070 30`, and `sipp -sn uac 127.0.0.1:5070`.

mod figures;

use rsipstack::EndpointBuilder;
use rsipstack::sip::{Header, Method, StatusCode};
use rsipstack::transaction::endpoint::EndpointOption;
use rsipstack::transport::TransportLayer;
use rsipstack::transport::udp::UdpConnection;
use std::error::Error;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (bind, time) = figures::arguments()?;
    let token = CancellationToken::new();
    let transports = TransportLayer::new(token.clone());
    let udp = UdpConnection::create_connection(bind, None, Some(token.child_token())).await?;
    transports.add_transport(udp.into());
    let option = EndpointOption {
        auto_ack_2xx: false,
        ..EndpointOption::default()
    };
    let endpoint = EndpointBuilder::new()
        .with_transport_layer(transports)
        .with_cancel_token(token.clone())
        .with_option(option)
        .build();
    let mut incoming = endpoint.incoming_transactions()?;
    let contact = format!("<sip:callee@{bind}>");
    let calls = figures::Calls::default();
    let counted = calls.clone();
    tokio::spawn(async move {
        while let Some(mut transaction) = incoming.recv().await {
            let (contact, counted) = (contact.clone(), counted.clone());
            tokio::spawn(async move {
                let headers = match transaction.original.method {
                    Method::Ack => return,
                    Method::Invite => vec![Header::Contact(contact.into())],
                    _ => {
                        counted.add();
                        Vec::new()
                    }
                };
                if transaction
                    .reply_with(StatusCode::OK, headers, None)
                    .await
                    .is_ok()
                {
                    while transaction.receive().await.is_some() {}
                }
            });
        }
    });
    tokio::spawn(async move { endpoint.serve().await });
    figures::wait_and_tell("bare", time, &calls).await;
    token.cancel();
    Ok(())
}
