//! Whether a server serves, as probes of gRPC ask.

messages! {
    /// Does it?
    HealthCheckRequest {
        /// Empty: all of them.
        service: string = 1;
    }

    /// Whether it does.
    HealthCheckResponse {
        status: (enum ServingStatus) = 1;
    }
}

choices! {
    /// Whether a server serves.
    ServingStatus "grpc_health_v1.HealthCheckResponse_ServingStatus" {
        Unknown = 0 "UNKNOWN";
        Serving = 1 "SERVING";
        NotServing = 2 "NOT_SERVING";
        ServiceUnknown = 3 "SERVICE_UNKNOWN";
    }
}
