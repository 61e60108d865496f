<?php
/**
 * Plugin Name: Who is online
 * Description: Reports page views to a server of online; the shortcode [online] shows who is on the site and on the page.
 * Version: 1.0.0
 * Requires PHP: 8.0
 * License: MIT
 */

// Its job: to bind Online.php, which lies beside it, to WordPress. Not its job: pages that a cache serves, which PHP does
// not see; the web component is for these. See docs/php.md.
//
// 1. Only what visitors look at is reported: no feed, preview, redirect or error, nothing of wp-admin, cron or REST.
// 2. A page is reported and asked for once, however often it shows the answer.

defined('ABSPATH') || exit;
require_once __DIR__ . '/Online.php';

/**
 * Reports this page view, if it was not yet, and returns who is online: `people` and `here` (on this page), the names of
 * `members` here, newest first, and how many `guests` are. Null if the server does not answer, or if this is no page
 * that a visitor looks at.
 *
 * @return array{people: int, here: int, members: list<string>, guests: int}|null
 */
function who_is_online(): ?array
{
    static $answer = false;
    $isPage = did_action('template_redirect') && !is_feed() && !is_robots() && !is_trackback() && !is_preview();
    if ($answer === false && $isPage) {
        $online = new Online(wp_salt('auth'), defined('ONLINE_REDIS_URL') ? ONLINE_REDIS_URL : null);
        $url = '/' . ltrim(rawurldecode(strtok($_SERVER['REQUEST_URI'], '?')), '/');
        $user = wp_get_current_user();
        $answer = $online->view($url, $user->exists() ? $user->user_nicename : null);
    }
    return $answer ?: null;
}

// After WordPress has sent whom it redirects elsewhere.
add_action('template_redirect', fn () => who_is_online(), 100);

add_shortcode('online', function (): string {
    $answer = who_is_online();
    if ($answer === null) {
        return '';
    }
    ['people' => $people, 'here' => $here, 'members' => $names, 'guests' => $guests] = $answer;
    if ($guests > 0) {
        $names[] = $guests === 1 ? '1 guest' : "$guests guests";
    }
    return esc_html("$people online, $here on this page" . ($names ? ': ' . implode(', ', $names) : ''));
});
