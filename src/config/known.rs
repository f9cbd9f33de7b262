//! What nginx 1.29.7 has, so that the refusal of a directive can say what dropping it means, and
//! `-V` which of nginx's modules are not there.

/// A module, or several, and their directives, weir's own among them.
struct Module {
    /// The option of nginx's `configure` that leaves it out, without `--without-`.
    option: Option<&'static str>,
    /// Dropping one changes speed, memory or a log's detail at most, or it only tunes another that
    /// must be dropped too.
    harmless: &'static str,
    /// Dropping one changes what is answered, or to whom.
    changing: &'static str,
}

impl Module {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.harmless
            .split_whitespace()
            .chain(self.changing.split_whitespace())
    }
}

/// A note on a directive that weir does not have.
pub fn note(name: &str) -> &'static str {
    let has = |names: &str| names.split_whitespace().any(|known| known == name);
    if MODULES.iter().any(|module| has(module.harmless)) {
        "weir does not have it; harmless to drop"
    } else if MODULES.iter().any(|module| has(module.changing)) {
        "weir does not have it; dropping it changes behaviour"
    } else if name.contains("_by_lua") || name.starts_with("lua_") || has(OPENRESTY) {
        "OpenResty's, weir does not have it; dropping it changes behaviour"
    } else if has(PLUS) {
        "NGINX Plus's, weir does not have it; dropping it changes behaviour"
    } else {
        "nginx itself does not have it either"
    }
}

/// The options of nginx's `configure` for modules of which no directive is in `ours`.
pub fn missing(ours: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
    MODULES
        .iter()
        .filter(move |module| !module.names().any(&ours))
        .filter_map(|module| module.option)
}

/// Of OpenResty's other modules, what load balancers use.
const OPENRESTY: &str = "echo more_clear_headers more_clear_input_headers more_set_headers \
    more_set_input_headers set_escape_uri set_form_input set_unescape_uri";

/// Of NGINX Plus, what load balancers use.
const PLUS: &str = "api health_check keyval keyval_zone match ntlm queue state status_zone \
    zone_sync zone_sync_server";

const MODULES: &[Module] = &[
    Module {
        option: None,
        harmless: "debug_points env google_perftools_profiles lock_file pcre_jit thread_pool \
            timer_resolution worker_cpu_affinity worker_priority worker_rlimit_core \
            working_directory",
        changing: "daemon error_log include load_module master_process pid user worker_processes \
            worker_rlimit_nofile worker_shutdown_timeout",
    },
    Module {
        option: None,
        harmless: "accept_mutex_delay acceptex_read devpoll_changes devpoll_events epoll_events \
            eventport_events iocp_threads kqueue_changes kqueue_events post_acceptex quic_bpf \
            ssl_engine ssl_object_cache_inheritable worker_aio_requests",
        changing: "accept_mutex debug_connection events multi_accept use worker_connections",
    },
    Module {
        option: None,
        harmless: "aio aio_write client_body_buffer_size client_body_in_single_buffer \
            connection_pool_size directio directio_alignment gunzip_buffers gzip_disable \
            gzip_http_version gzip_proxied gzip_vary http2_body_preread_size http2_chunk_size \
            http2_max_concurrent_pushes http2_pool_size http2_push http2_push_preload \
            http2_recv_buffer_size http2_streams_index_size keepalive_disable log_not_found \
            msie_padding open_file_cache open_file_cache_errors open_file_cache_events \
            open_file_cache_min_uses open_file_cache_valid open_log_file_cache output_buffers \
            postpone_output quic_gso read_ahead request_pool_size send_lowat sendfile_max_chunk \
            server_names_hash_bucket_size server_names_hash_max_size ssl_buffer_size \
            ssl_certificate_cache ssl_session_cache ssl_session_tickets ssl_session_timeout \
            subrequest_output_buffer_size types_hash_bucket_size types_hash_max_size \
            variables_hash_bucket_size variables_hash_max_size",
        changing: "absolute_redirect access_log add_after_body add_before_body add_header \
            add_header_inherit add_trailer add_trailer_inherit addition_types alias auth_delay \
            auth_request auth_request_set chunked_transfer_encoding client_body_in_file_only \
            client_body_temp_path client_body_timeout client_header_buffer_size \
            client_header_timeout client_max_body_size create_full_put_path dav_access \
            dav_methods default_type degradation degrade disable_symlinks early_hints error_log \
            error_page etag expires flv geoip_city geoip_country geoip_org geoip_proxy \
            geoip_proxy_recursive gunzip gzip_static http http2 http2_idle_timeout \
            http2_max_concurrent_streams http2_max_field_size http2_max_header_size \
            http2_max_requests http2_recv_timeout http3 http3_hq http3_max_concurrent_streams \
            http3_stream_buffer_size if_modified_since ignore_invalid_headers image_filter \
            image_filter_buffer image_filter_interlace image_filter_jpeg_quality \
            image_filter_sharpen image_filter_transparency image_filter_webp_quality index \
            internal keepalive_min_timeout large_client_header_buffers least_time limit_except \
            limit_rate limit_rate_after lingering_close lingering_time lingering_timeout listen \
            location log_format log_subrequest max_ranges merge_slashes min_delete_depth mp4 \
            mp4_buffer_size mp4_max_buffer_size mp4_start_key_frame msie_refresh perl \
            perl_modules perl_require perl_set port_in_redirect post_action \
            quic_active_connection_id_limit quic_host_key quic_retry random_index real_ip_header \
            real_ip_recursive recursive_error_pages reset_timedout_connection resolver \
            resolver_timeout root satisfy secure_link secure_link_md5 secure_link_secret \
            send_timeout sendfile server server_name server_name_in_redirect server_tokens \
            set_real_ip_from slice ssl_certificate ssl_certificate_compression \
            ssl_certificate_key ssl_ciphers ssl_client_certificate ssl_conf_command ssl_crl \
            ssl_dhparam ssl_early_data ssl_ecdh_curve ssl_ech_file ssl_ocsp ssl_ocsp_cache \
            ssl_ocsp_responder ssl_password_file ssl_prefer_server_ciphers ssl_protocols \
            ssl_reject_handshake ssl_session_ticket_key ssl_stapling ssl_stapling_file \
            ssl_stapling_responder ssl_stapling_verify ssl_trusted_certificate ssl_verify_client \
            ssl_verify_depth stub_status sub_filter sub_filter_last_modified sub_filter_once \
            sub_filter_types tcp_nodelay tcp_nopush try_files tunnel_bind tunnel_buffer_size \
            tunnel_connect_timeout tunnel_next_upstream tunnel_next_upstream_timeout \
            tunnel_next_upstream_tries tunnel_pass tunnel_read_timeout tunnel_send_lowat \
            tunnel_send_timeout tunnel_socket_keepalive tunnel_socket_rcvbuf \
            tunnel_socket_sndbuf types underscores_in_headers upstream xml_entities \
            xslt_last_modified xslt_param xslt_string_param xslt_stylesheet xslt_types",
    },
    Module {
        option: Some("http_access_module"),
        harmless: "",
        changing: "allow deny",
    },
    Module {
        option: Some("http_auth_basic_module"),
        harmless: "",
        changing: "auth_basic auth_basic_user_file",
    },
    Module {
        option: Some("http_autoindex_module"),
        harmless: "",
        changing: "autoindex autoindex_exact_size autoindex_format autoindex_localtime",
    },
    Module {
        option: Some("http_browser_module"),
        harmless: "",
        changing: "ancient_browser ancient_browser_value modern_browser modern_browser_value",
    },
    Module {
        option: Some("http_charset_module"),
        harmless: "",
        changing: "charset charset_map charset_types override_charset source_charset",
    },
    Module {
        option: Some("http_empty_gif_module"),
        harmless: "",
        changing: "empty_gif",
    },
    Module {
        option: Some("http_fastcgi_module"),
        harmless: "",
        changing: "fastcgi_bind fastcgi_buffer_size fastcgi_buffering fastcgi_buffers \
            fastcgi_busy_buffers_size fastcgi_cache fastcgi_cache_background_update \
            fastcgi_cache_bypass fastcgi_cache_key fastcgi_cache_lock fastcgi_cache_lock_age \
            fastcgi_cache_lock_timeout fastcgi_cache_max_range_offset fastcgi_cache_methods \
            fastcgi_cache_min_uses fastcgi_cache_path fastcgi_cache_revalidate \
            fastcgi_cache_use_stale fastcgi_cache_valid fastcgi_catch_stderr \
            fastcgi_connect_timeout fastcgi_force_ranges fastcgi_hide_header \
            fastcgi_ignore_client_abort fastcgi_ignore_headers fastcgi_index \
            fastcgi_intercept_errors fastcgi_keep_conn fastcgi_limit_rate \
            fastcgi_max_temp_file_size fastcgi_next_upstream fastcgi_next_upstream_timeout \
            fastcgi_next_upstream_tries fastcgi_no_cache fastcgi_param fastcgi_pass \
            fastcgi_pass_header fastcgi_pass_request_body fastcgi_pass_request_headers \
            fastcgi_read_timeout fastcgi_request_buffering fastcgi_send_lowat \
            fastcgi_send_timeout fastcgi_socket_keepalive fastcgi_split_path_info fastcgi_store \
            fastcgi_store_access fastcgi_temp_file_write_size fastcgi_temp_path",
    },
    Module {
        option: Some("http_geo_module"),
        harmless: "",
        changing: "geo",
    },
    Module {
        option: Some("http_grpc_module"),
        harmless: "",
        changing: "grpc_bind grpc_buffer_size grpc_connect_timeout grpc_hide_header grpc_ignore_headers \
            grpc_intercept_errors grpc_next_upstream grpc_next_upstream_timeout \
            grpc_next_upstream_tries grpc_pass grpc_pass_header grpc_read_timeout \
            grpc_send_timeout grpc_set_header grpc_socket_keepalive grpc_ssl_certificate \
            grpc_ssl_certificate_cache grpc_ssl_certificate_key grpc_ssl_ciphers \
            grpc_ssl_conf_command grpc_ssl_crl grpc_ssl_name grpc_ssl_password_file \
            grpc_ssl_protocols grpc_ssl_server_name grpc_ssl_session_reuse \
            grpc_ssl_trusted_certificate grpc_ssl_verify grpc_ssl_verify_depth",
    },
    Module {
        option: Some("http_gzip_module"),
        harmless: "gzip_buffers gzip_comp_level gzip_hash gzip_min_length gzip_no_buffer gzip_types \
            gzip_window postpone_gzipping",
        changing: "gzip",
    },
    Module {
        option: Some("http_limit_conn_module"),
        harmless: "",
        changing: "limit_conn limit_conn_dry_run limit_conn_log_level limit_conn_status limit_conn_zone",
    },
    Module {
        option: Some("http_limit_req_module"),
        harmless: "",
        changing: "limit_req limit_req_dry_run limit_req_log_level limit_req_status limit_req_zone",
    },
    Module {
        option: Some("http_map_module"),
        harmless: "map_hash_bucket_size map_hash_max_size",
        changing: "map",
    },
    Module {
        option: Some("http_memcached_module"),
        harmless: "",
        changing: "memcached_bind memcached_buffer_size memcached_connect_timeout memcached_gzip_flag \
            memcached_next_upstream memcached_next_upstream_timeout \
            memcached_next_upstream_tries memcached_pass memcached_read_timeout \
            memcached_send_timeout memcached_socket_keepalive",
    },
    Module {
        option: Some("http_mirror_module"),
        harmless: "",
        changing: "mirror mirror_request_body",
    },
    Module {
        option: Some("http_proxy_module"),
        harmless: "proxy_buffer_size proxy_buffers proxy_busy_buffers_size \
            proxy_headers_hash_bucket_size proxy_headers_hash_max_size proxy_max_temp_file_size \
            proxy_send_lowat proxy_ssl_certificate_cache proxy_ssl_session_reuse \
            proxy_temp_file_write_size",
        changing: "proxy_bind proxy_buffering proxy_cache proxy_cache_background_update \
            proxy_cache_bypass proxy_cache_convert_head proxy_cache_key proxy_cache_lock \
            proxy_cache_lock_age proxy_cache_lock_timeout proxy_cache_max_range_offset \
            proxy_cache_methods proxy_cache_min_uses proxy_cache_path proxy_cache_revalidate \
            proxy_cache_use_stale proxy_cache_valid proxy_connect_timeout proxy_cookie_domain \
            proxy_cookie_flags proxy_cookie_path proxy_force_ranges proxy_hide_header \
            proxy_http_version proxy_ignore_client_abort proxy_ignore_headers \
            proxy_intercept_errors proxy_limit_rate proxy_method proxy_next_upstream \
            proxy_next_upstream_timeout proxy_next_upstream_tries proxy_no_cache proxy_pass \
            proxy_pass_header proxy_pass_request_body proxy_pass_request_headers \
            proxy_pass_trailers proxy_read_timeout proxy_redirect proxy_request_buffering \
            proxy_send_timeout proxy_set_body proxy_set_header proxy_socket_keepalive \
            proxy_ssl_certificate proxy_ssl_certificate_key proxy_ssl_ciphers \
            proxy_ssl_conf_command proxy_ssl_crl proxy_ssl_name proxy_ssl_password_file \
            proxy_ssl_protocols proxy_ssl_server_name proxy_ssl_trusted_certificate \
            proxy_ssl_verify proxy_ssl_verify_depth proxy_store proxy_store_access \
            proxy_temp_path",
    },
    Module {
        option: Some("http_referer_module"),
        harmless: "referer_hash_bucket_size referer_hash_max_size",
        changing: "valid_referers",
    },
    Module {
        option: Some("http_rewrite_module"),
        harmless: "rewrite_log uninitialized_variable_warn",
        changing: "break if return rewrite set",
    },
    Module {
        option: Some("http_scgi_module"),
        harmless: "",
        changing: "scgi_bind scgi_buffer_size scgi_buffering scgi_buffers scgi_busy_buffers_size \
            scgi_cache scgi_cache_background_update scgi_cache_bypass scgi_cache_key \
            scgi_cache_lock scgi_cache_lock_age scgi_cache_lock_timeout \
            scgi_cache_max_range_offset scgi_cache_methods scgi_cache_min_uses scgi_cache_path \
            scgi_cache_revalidate scgi_cache_use_stale scgi_cache_valid scgi_connect_timeout \
            scgi_force_ranges scgi_hide_header scgi_ignore_client_abort scgi_ignore_headers \
            scgi_intercept_errors scgi_limit_rate scgi_max_temp_file_size scgi_next_upstream \
            scgi_next_upstream_timeout scgi_next_upstream_tries scgi_no_cache scgi_param \
            scgi_pass scgi_pass_header scgi_pass_request_body scgi_pass_request_headers \
            scgi_read_timeout scgi_request_buffering scgi_send_timeout scgi_socket_keepalive \
            scgi_store scgi_store_access scgi_temp_file_write_size scgi_temp_path",
    },
    Module {
        option: Some("http_split_clients_module"),
        harmless: "",
        changing: "split_clients",
    },
    Module {
        option: Some("http_ssi_module"),
        harmless: "",
        changing: "ssi ssi_ignore_recycled_buffers ssi_last_modified ssi_min_file_chunk \
            ssi_silent_errors ssi_types ssi_value_length",
    },
    Module {
        option: Some("http_upstream_hash_module"),
        harmless: "",
        changing: "hash",
    },
    Module {
        option: Some("http_upstream_ip_hash_module"),
        harmless: "",
        changing: "ip_hash",
    },
    Module {
        option: Some("http_upstream_keepalive_module"),
        harmless: "",
        changing: "keepalive keepalive_requests keepalive_time keepalive_timeout",
    },
    Module {
        option: Some("http_upstream_least_conn_module"),
        harmless: "",
        changing: "least_conn",
    },
    Module {
        option: Some("http_upstream_random_module"),
        harmless: "",
        changing: "random",
    },
    Module {
        option: Some("http_upstream_sticky"),
        harmless: "",
        changing: "sticky",
    },
    Module {
        option: Some("http_upstream_zone_module"),
        harmless: "zone",
        changing: "",
    },
    Module {
        option: Some("http_userid_module"),
        harmless: "",
        changing: "userid userid_domain userid_expires userid_flags userid_mark userid_name userid_p3p \
            userid_path userid_service",
    },
    Module {
        option: Some("http_uwsgi_module"),
        harmless: "",
        changing: "uwsgi_bind uwsgi_buffer_size uwsgi_buffering uwsgi_buffers uwsgi_busy_buffers_size \
            uwsgi_cache uwsgi_cache_background_update uwsgi_cache_bypass uwsgi_cache_key \
            uwsgi_cache_lock uwsgi_cache_lock_age uwsgi_cache_lock_timeout \
            uwsgi_cache_max_range_offset uwsgi_cache_methods uwsgi_cache_min_uses \
            uwsgi_cache_path uwsgi_cache_revalidate uwsgi_cache_use_stale uwsgi_cache_valid \
            uwsgi_connect_timeout uwsgi_force_ranges uwsgi_hide_header uwsgi_ignore_client_abort \
            uwsgi_ignore_headers uwsgi_intercept_errors uwsgi_limit_rate \
            uwsgi_max_temp_file_size uwsgi_modifier1 uwsgi_modifier2 uwsgi_next_upstream \
            uwsgi_next_upstream_timeout uwsgi_next_upstream_tries uwsgi_no_cache uwsgi_param \
            uwsgi_pass uwsgi_pass_header uwsgi_pass_request_body uwsgi_pass_request_headers \
            uwsgi_read_timeout uwsgi_request_buffering uwsgi_send_timeout uwsgi_socket_keepalive \
            uwsgi_ssl_certificate uwsgi_ssl_certificate_cache uwsgi_ssl_certificate_key \
            uwsgi_ssl_ciphers uwsgi_ssl_conf_command uwsgi_ssl_crl uwsgi_ssl_name \
            uwsgi_ssl_password_file uwsgi_ssl_protocols uwsgi_ssl_server_name \
            uwsgi_ssl_session_reuse uwsgi_ssl_trusted_certificate uwsgi_ssl_verify \
            uwsgi_ssl_verify_depth uwsgi_store uwsgi_store_access uwsgi_string \
            uwsgi_temp_file_write_size uwsgi_temp_path",
    },
    Module {
        option: None,
        harmless: "",
        changing: "auth_http auth_http_header auth_http_pass_client_cert auth_http_timeout imap_auth \
            imap_capabilities imap_client_buffer mail max_errors pop3_auth pop3_capabilities \
            protocol proxy proxy_buffer proxy_pass_error_message proxy_protocol proxy_smtp_auth \
            proxy_timeout smtp_auth smtp_capabilities smtp_client_buffer smtp_greeting_delay \
            starttls timeout xclient",
    },
    Module {
        option: None,
        harmless: "",
        changing: "pass preread_buffer_size preread_timeout proxy_download_rate proxy_downstream_buffer \
            proxy_half_close proxy_protocol_timeout proxy_requests proxy_responses proxy_ssl \
            proxy_upload_rate proxy_upstream_buffer ssl_alpn ssl_handshake_timeout ssl_preread \
            stream",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tells_harmless_from_changing() {
        for (name, word) in [
            ("aio", "harmless"),
            ("worker_cpu_affinity", "harmless"),
            ("zone", "harmless"),
            ("gzip", "changes behaviour"),
            ("rewrite", "changes behaviour"),
            ("ssl_certificate", "changes behaviour"),
            ("content_by_lua_block", "OpenResty"),
            ("lua_shared_dict", "OpenResty"),
            ("health_check", "NGINX Plus"),
            ("no_such_thing", "either"),
        ] {
            assert!(note(name).contains(word), "{name}: {}", note(name));
        }
    }

    #[test]
    fn no_directive_is_both() {
        let harmless: HashSet<_> = MODULES
            .iter()
            .flat_map(|module| module.harmless.split_whitespace())
            .collect();
        for name in MODULES
            .iter()
            .flat_map(|module| module.changing.split_whitespace())
        {
            assert!(!harmless.contains(name), "{name}");
        }
    }

    #[test]
    fn a_module_is_missing_when_none_of_it_is_there() {
        let missing: Vec<_> = missing(|name| name == "allow" || name == "return").collect();
        assert!(!missing.contains(&"http_access_module"));
        assert!(!missing.contains(&"http_rewrite_module"));
        assert!(missing.contains(&"http_gzip_module"));
    }
}
