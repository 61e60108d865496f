"""What contrib/ holds, a PHP class and a plugin for WordPress; and the two lines for Express and Rails.

PHP, Express and Rails are real; of WordPress there is only what the plugin calls.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.programs import program
from tests.serving import PATIENCE_S
from tests.websites import FIREFOX, NODE_PATH, Browser, blocks, free_port, hanging_url, website

from online_client import Kinds
from online_client.guests import guest_key, guest_name

ROOT = Path(__file__).parents[2]
KEY = guest_key("a long secret")


@pytest.fixture
def php(tmp_path):
    """Runs PHP with the class alone, without extensions; returns the value of an expression. Warnings are errors."""

    def php(code, url, first="", online=True):
        begin = f"require '{ROOT}/contrib/php/Online.php'; $online = new Online('a long secret');" if online else ""
        begin += "set_error_handler(fn (...$e) => error_reporting() & $e[0] && throw new Error($e[1]));"
        variables = {"PATH": os.environ["PATH"], "ONLINE_REDIS_URL": url, "TMPDIR": str(tmp_path)}
        command = [
            program("php"),
            "-n",
            "-d",
            "display_errors=stderr",
            "-r",
            f"{begin} {first} echo json_encode({code});",
        ]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE_S)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return php


def visit(url, user=None, agent=FIREFOX, address="192.0.2.7", **headers):
    server = {"REMOTE_ADDR": address, "HTTP_USER_AGENT": agent, **headers}
    items = ", ".join(f"{name!r} => {value!r}" for name, value in server.items())
    return f"$online->view({url!r}, {'null' if user is None else repr(user)}, [{items}])"


@pytest.fixture
def here(server, url):
    """The address of a site of its own, as the class takes it."""
    return f"redis://127.0.0.1:{server.port}/{url.rpartition('/')[2]}"


def test_the_class_reports_page_views_and_tells_who_is_there(php, here, client):
    views = [visit("/a", "ada"), visit("/a", "kim"), visit("/a"), "$online->people()"]
    assert php(f"[{', '.join(views)}]", here) == [
        {"people": 1, "here": 1, "members": ["ada"], "guests": 0},
        {"people": 2, "here": 2, "members": ["kim", "ada"], "guests": 0},
        {"people": 3, "here": 3, "members": ["kim", "ada"], "guests": 1},
        3,
    ]
    guest = guest_name(KEY, b"192.0.2.7", FIREFOX.encode()).decode()  # as by all middleware with this secret
    assert [user.user for user in client.page("/a").users] == [guest, "kim", "ada"]


def test_what_is_no_page_view_is_not_reported_by_the_class(php, here, client):
    aside = [{"HTTP_SEC_PURPOSE": "prefetch"}, {"HTTP_HX_REQUEST": "true"}, {"HTTP_X_REQUESTED_WITH": "XMLHttpRequest"}]
    views = [visit("/a", "ada", **headers) for headers in (*aside, {"REQUEST_METHOD": "PUT"})]
    views += [visit("/a.css", "ada"), visit("/a", agent="curl/8.5"), visit("/b", "théo", HTTP_HX_BOOSTED="true")]
    told = php(f"[{', '.join(views)}]", here)
    assert [each["people"] for each in told] == [0, 0, 0, 0, 0, 0, 1]
    assert told[-1]["members"] == ["théo"]
    assert client.kinds() == Kinds(1, 0, 0, 1)


def test_without_a_server_the_class_says_nothing_and_rests(php, tmp_path):
    assert php(f"[{visit('/a', 'ada')}, $online->people()]", f"redis://127.0.0.1:{free_port()}") == [None, None]
    assert len(list(tmp_path.glob("online-*.failed"))) == 1


def test_a_server_that_hangs_is_none(php):
    with hanging_url() as url:
        assert php(visit("/a", "ada"), url.replace("online:", "redis:")) is None


def test_what_the_server_refuses_does_not_silence_the_next_page(php, here):
    assert php(f"[{visit('/' + 'x' * 5_000, 'ada')}, {visit('/a', 'ada')}['people']]", here) == [None, 1]


def test_a_kept_connection_that_was_closed_is_opened_anew(php, here, client):
    kill = "(function () use ($online) { $r = new ReflectionProperty($online, 'socket'); "
    kill += "stream_socket_shutdown($r->getValue($online), STREAM_SHUT_RDWR); })()"
    told = php(f"[$online->people(), {kill}, {visit('/a', 'ada')}]", here)
    assert (told[0], told[2]["people"]) == (0, 1)


def test_symfony_and_laravel_with_two_lines(php, here):
    autoload = "/usr/share/php/Symfony/Component/HttpFoundation/autoload.php"
    if not Path(autoload).exists():
        pytest.skip("Symfony's HttpFoundation is not installed; the package stands in .ci/packages")
    [lines] = [block.text for block in blocks("php.md") if "$request->attributes" in block.text]
    request = "Symfony\\Component\\HttpFoundation\\Request::create('/caf%C3%A9?x=1')"
    told = php(
        f"(function ($request, $user) {{ {lines} return $request->attributes->get('online'); }})({request}, 'ada')",
        here,
        f"require '{autoload}';",
    )
    assert told == {"people": 1, "here": 1, "members": ["ada"], "guests": 0}


WORDPRESS = """
define('ABSPATH', '/');
$hooks = $shortcodes = $is = $done = [];
function add_action($name, $call) { $GLOBALS['hooks'][$name][] = $call; }
function add_shortcode($name, $call) { $GLOBALS['shortcodes'][$name] = $call; }
function did_action($name) { return $GLOBALS['done'][$name] ?? 0; }
function do_action($name) { $GLOBALS['done'][$name] = 1; foreach ($GLOBALS['hooks'][$name] as $call) $call(); }
foreach (['is_feed', 'is_robots', 'is_trackback', 'is_preview'] as $name) {
    eval("function $name() { return in_array('$name', \\$GLOBALS['is']); }");
}
function wp_salt($scheme) { return 'a long secret'; }
function esc_html($text) { return htmlspecialchars($text, ENT_QUOTES); }
final class WP_User {
    public function __construct(public string $user_nicename) {}
    public function exists() { return $this->user_nicename !== ''; }
}
function wp_get_current_user() { return new WP_User($GLOBALS['user']); }
"""


@pytest.fixture
def wordpress(php, here, tmp_path):
    """Looks at a page with the plugin, and returns what [online] shows there; `said`: what WordPress calls the page."""
    for name in ("php/Online.php", "wordpress/who-is-online.php"):
        (tmp_path / Path(name).name).write_bytes((ROOT / "contrib" / name).read_bytes())
    plugin = f"{WORDPRESS} require '{tmp_path}/who-is-online.php';"

    def wordpress(url, user="", said=(), action="do_action('template_redirect');"):
        visitor = f"'REMOTE_ADDR' => '192.0.2.7', 'HTTP_USER_AGENT' => {FIREFOX!r}"
        first = f"{plugin} $_SERVER = ['REQUEST_URI' => {url!r}, {visitor}];"
        first += f" $user = {user!r}; $is = {list(said)!r}; {action}"
        return php("$shortcodes['online']()", here, first, online=False)

    return wordpress


def test_wordpress_shows_who_is_online_by_a_shortcode(wordpress, client):
    assert wordpress("/caf%C3%A9/?p=1") == "1 online, 1 on this page: 1 guest"
    assert wordpress("/caf%C3%A9/", "ada") == "2 online, 2 on this page: ada, 1 guest"
    assert wordpress("/other/", "<kim>") == "3 online, 1 on this page: &lt;kim&gt;"
    guest = guest_name(KEY, b"192.0.2.7", FIREFOX.encode()).decode()
    assert [user.user for user in client.page("/café/").users] == ["ada", guest]


def test_wordpress_reports_no_feeds_and_nothing_but_pages(wordpress, client):
    for said in ("is_feed", "is_robots", "is_trackback", "is_preview"):
        assert wordpress("/a/", "ada", [said]) == ""
    assert wordpress("/wp-admin/", "ada", action="") == ""
    assert client.count() == 0


def test_rails_with_two_lines(server, url, client, tmp_path):
    ruby = program("ruby")
    wanted = "require 'action_controller/railtie'; require 'redis'"
    if subprocess.run([ruby, "-e", wanted], capture_output=True).returncode:
        pytest.skip("Rails or the gem redis is not installed; the packages stand in .ci/packages")
    module, _, lines = (block.text for block in blocks("ruby.md") if block.language == "ruby")
    initializer, action = lines.strip().split("\n")
    (tmp_path / "online.rb").write_text(module.replace("timeout: 0.05", "timeout: 10"))  # a busy machine is slow
    (tmp_path / "app.rb").write_text(f"""
require "action_controller/railtie"
require_relative "online"
class App < Rails::Application
  config.secret_key_base = "a long secret"
  config.eager_load = false
  config.logger = Logger.new(nil)
  routes.append {{ get "/*any", to: "pages#show", format: false }}
end
{initializer}
class ApplicationController < ActionController::Base
  def current_user = params[:login] && Struct.new(:name).new(params[:login])
  {action}
end
class PagesController < ApplicationController
  def show = render(json: [@online.people, @online.here, @online.members, @online.guests])
end
App.initialize!
puts ARGV.map {{ |path|
  visitor = {{"REMOTE_ADDR" => "192.0.2.7", "HTTP_USER_AGENT" => "{FIREFOX}"}}
  App.call(Rack::MockRequest.env_for(path, visitor))[2].enum_for(:each).to_a.join
}}
""")
    variables = {"ONLINE_REDIS_URL": f"redis://{url.rpartition('/')[2]}:token@127.0.0.1:{server.port}"}
    variables["RAILS_ENV"] = "production"
    asked = [ruby, "app.rb", "/caf%C3%A9?login=ada", "/caf%C3%A9", "/a+b.css"]
    done = subprocess.run(
        asked, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert shown == [[1, 1, ["ada"], 0], [2, 2, ["ada"], 1], [2, 0, [], 0]]
    guest = guest_name(KEY, b"192.0.2.7", FIREFOX.encode()).decode()
    assert [user.user for user in client.page("/café").users] == [guest, "ada"]


def test_express_with_two_lines(server, url, client, tmp_path):
    node = program("node")
    variables = {
        "NODE_PATH": NODE_PATH,
        "ONLINE_REDIS_URL": f"redis://{url.rpartition('/')[2]}:token@127.0.0.1:{server.port}",
    }
    wanted = "require('express'); require('redis')"
    if subprocess.run([node, "-e", wanted], env=os.environ | variables, capture_output=True).returncode:
        pytest.skip("Express or node-redis is not installed; the packages stand in .ci/packages")
    module, site, lines = (block.text for block in blocks("node.md") if block.language == "javascript")
    [decoded] = re.findall(r"^const decoded = .*$", site, re.MULTILINE)
    (tmp_path / "online.js").write_text(module)
    app = f"""
const express = require("express");
const {{ Online }} = require("./online");
{decoded}
const app = express();
app.use((request, response, next) => {{
  request.user = request.query.login && {{ name: request.query.login }};
  next();
}});
{lines}
app.get(/.*/, (request, response) => response.send(JSON.stringify(response.locals.online)));
app.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("listens"));
"""
    (tmp_path / "app.js").write_text(app)
    port = free_port()
    with website(node, "app.js", str(port), cwd=tmp_path, ready="listens", **variables):
        browser = Browser(f"http://127.0.0.1:{port}")
        browser.get_until("/caf%C3%A9?login=ada", '"here":1,"members":\\["ada"\\],"guests":0')
        browser.get("/%ff")
        assert client.page("/café").users[0].user == "ada"
